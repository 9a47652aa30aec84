"""Pictures of HTML, made by headless Chromium (Debian package `chromium`)."""

import pathlib
import subprocess
import tempfile

from PIL import Image, ImageChops

CHROMIUM = "chromium"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--force-device-scale-factor=1"]
# A colour that no picture has, around and between the cards.
GROUND = (255, 0, 255)
PAGE = "<!doctype html><meta charset=utf-8><style>html{{background:#f0f}}body{{margin:0}}.card{{width:max-content;" \
       "background:#fff;margin-bottom:16px}}</style>{}"


def pictures(cards, window=(1600, 12000)):
    """One picture for each piece of HTML, as large as its content. All are drawn on one page."""
    body = "".join(f'<div class="card">{card}</div>' for card in cards)
    page = screenshot(PAGE.format(body), window)
    found = cut(page)
    if len(found) != len(cards):
        raise SystemExit(f"expected {len(cards)} pictures on the page, found {len(found)}")
    return found


def screenshot(html, window):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "page.html").write_text(html)
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}/profile", f"--window-size={window[0]},{window[1]}",
                   f"--screenshot={folder}/page.png", (folder / "page.html").as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        return Image.open(folder / "page.png").convert("RGB")


def cut(page):
    """The cards of a page, top to bottom."""
    width, height = page.size
    red, green, blue = ImageChops.difference(page, Image.new("RGB", page.size, GROUND)).split()
    drawn = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    cards, top = [], None
    for y in range(height):
        empty = drawn.crop((0, y, width, y + 1)).getbbox() is None
        if top is None and not empty:
            top = y
        elif top is not None and empty:
            strip = drawn.crop((0, top, width, y))
            cards.append(page.crop((0, top, strip.getbbox()[2], y)))
            top = None
    return cards
