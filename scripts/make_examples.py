"""Draws the example pictures: pages in scripts/examples by headless Chromium, the sign and the shapes by Pillow.

    python3 scripts/make_examples.py

Writes examples/*.png. Needs Pillow, the Debian packages chromium and those named in foreign/fonts.py. The questions,
examples/questions.jsonl, are written by hand.
"""

import pathlib
import re

from PIL import Image, ImageDraw, ImageFont

from foreign import browser, fonts
from foreign.pillow_pictures import figure
from foreign.words import COLORS

SCRIPTS = pathlib.Path(__file__).parent
OUT = SCRIPTS.parent / "examples"
PAGES = ["receipt", "table", "chart", "form", "list", "banner"]
# Drawn so many times larger, then made smaller: Pillow's figures have no smooth edges.
SMOOTH = 4


def main():
    OUT.mkdir(exist_ok=True)
    for name in PAGES:
        page = (SCRIPTS / "examples" / f"{name}.html").read_text()
        for family in re.findall(r"'([^']+)'", page):
            fonts.file(family)
        save(browser.pictures([page], window=(1000, 1000))[0], name)
    save(sign(), "sign")
    save(shapes(), "shapes")


def sign():
    """A trail sign on its post."""
    image = Image.new("RGB", (640 * SMOOTH, 420 * SMOOTH), "#a9c6d8")
    ink = ImageDraw.Draw(image)
    box = lambda *sides: tuple(side * SMOOTH for side in sides)
    ink.rectangle(box(0, 300, 640, 420), fill="#6f9460")
    ink.rectangle(box(300, 60, 340, 420), fill="#6b4a2e")
    ink.rounded_rectangle(box(70, 50, 570, 270), radius=18 * SMOOTH, fill="#7c5635", outline="#51361f", width=6 * SMOOTH)
    font = ImageFont.truetype(fonts.file("Liberation Serif", bold=True), 66 * SMOOTH)
    for line, middle in (("Trail closed", 118), ("Use bridge 7", 200)):
        ink.text(box(320, middle), line, font=font, fill="#fbf3df", anchor="mm")
    return image.resize((640, 420), Image.Resampling.LANCZOS)


def shapes():
    """Three red circles, two blue squares, two yellow stars, a green triangle and a blue circle."""
    image = Image.new("RGB", (520 * SMOOTH, 520 * SMOOTH), "#f5f2ea")
    ink = ImageDraw.Draw(image)
    for shape, color, x, y, radius in [
        ("circle", "red", 90, 95, 58), ("star", "yellow", 255, 100, 66), ("square", "blue", 425, 90, 60),
        ("triangle", "green", 100, 275, 66), ("circle", "red", 262, 262, 48), ("circle", "blue", 420, 265, 62),
        ("square", "blue", 95, 425, 56), ("star", "yellow", 262, 425, 60), ("circle", "red", 425, 428, 54),
    ]:
        figure(ink, shape, (x * SMOOTH, y * SMOOTH), radius * SMOOTH, COLORS[color])
    return image.resize((520, 520), Image.Resampling.LANCZOS)


def save(image, name):
    # 128 colours are enough for flat drawings and make small files.
    image = image.quantize(128, dither=0)
    image.save(OUT / f"{name}.png", optimize=True)
    print(f"{name}.png: {image.width}x{image.height}, {(OUT / f'{name}.png').stat().st_size} bytes")


if __name__ == "__main__":
    main()
