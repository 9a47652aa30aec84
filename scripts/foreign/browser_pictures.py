"""Scenes as HTML and SVG, as web pages would show them. Lengths are in em, so that one text size scales a picture."""

import math
from html import escape

from . import fonts
from .pillow_pictures import BAR_COLORS, PALETTES, polygon
from .words import COLORS


def card(scene, rng, size, wide=1.0):
    """HTML of the scene's picture with text of `size` pixels."""
    body, style = {"sign": sign, "receipt": receipt, "menu": menu, "table": table, "chart": chart,
                   "form": form}[scene.kind](scene, rng, wide)
    family = rng.choice(list(fonts.FAMILIES))
    fonts.file(family)
    return (f'<div style="box-sizing:border-box;width:max-content;font:{size}px/{rng.uniform(1.25, 1.6):.2f} '
            f"'{family}';{style}\">{body}</div>")


def colors(ground, ink):
    return f"background-color:{ground};color:{ink};"


def sign(scene, rng, wide):
    ground, ink, accent = rng.choice(PALETTES)
    look = rng.choice([
        "", f"border:0.12em solid {accent};", f"border:0.2em double {accent};",
        f"border:0.15em solid {accent};border-radius:0.6em;",
        f"background-image:linear-gradient(transparent 60%,{accent}66);",
    ])
    weight = rng.choice(["", "font-weight:bold;", "font-weight:bold;letter-spacing:0.04em;"])
    pad = rng.uniform(0.4, 1.2)
    style = f"padding:{pad:.2f}em {pad * 1.3 * wide:.2f}em;text-align:{rng.choice(['center', 'center', 'left'])};"
    return "<br>".join(map(escape, scene.lines)), colors(ground, ink) + style + weight + look


def price_rows(scene, style=""):
    rows = ((name, scene.currency + scene.amount(price)) for name, price in scene.items)
    return "".join(f'<div style="display:flex;justify-content:space-between;{style}"><span>{escape(name)}</span>'
                   f"<span>{text}</span></div>" for name, text in rows)


def receipt(scene, rng, wide):
    style = "background:#fffefa;color:#1a1a1a;"
    rule = rng.choice(["1px dashed #444", "2px solid #222", "3px double #333"])
    label = rng.choice(["TOTAL", "Total", "Total due"])
    date, farewell = (escape(text) for text in scene.extra)
    body = (f'<div style="text-align:center;font-weight:bold;font-size:1.25em">{escape(scene.title)}</div>'
            f'<div style="text-align:center">{date}</div><div style="border-top:{rule};margin:0.4em 0"></div>'
            f'{price_rows(scene)}<div style="border-top:{rule};margin:0.4em 0"></div>'
            f'<div style="display:flex;justify-content:space-between;font-weight:bold"><span>{label}</span>'
            f"<span>{scene.currency}{scene.amount(scene.total)}</span></div>"
            f'<div style="text-align:center;margin-top:0.5em">{farewell}</div>')
    return f'<div style="width:{rng.uniform(12, 15) * wide:.1f}em">{body}</div>', style + "padding:0.9em 1em;"


def menu(scene, rng, wide):
    ground, ink, accent = rng.choice(PALETTES)
    row = rng.choice(["", f"border-bottom:1px dotted {ink};", "padding:0.1em 0;"])
    body = (f'<div style="color:{accent};font-size:1.4em;font-weight:bold;text-align:{rng.choice(["left", "center"])}">'
            f"{escape(scene.title)}</div>{price_rows(scene, row)}")
    return f'<div style="width:{rng.uniform(12, 17) * wide:.1f}em">{body}</div>', colors(ground, ink) + "padding:1em 1.2em;"


def table(scene, rng, wide):
    line = rng.choice(["border:1px solid #888;", "border-bottom:1px solid #bbb;", ""])
    cell = f"padding:0.25em {rng.uniform(0.5, 0.9) * wide:.2f}em;text-align:left;{line}"
    head = "".join(f'<th style="{cell}">{escape(name)}</th>' for name in scene.columns)
    shade = rng.choice(["", "background:#f0f4f9;"])
    rows = "".join(f'<tr style="{shade if number % 2 else ""}">' + "".join(
        f'<td style="{cell}">{escape(text)}</td>' for text in row) + "</tr>" for number, row in enumerate(scene.rows))
    top = rng.choice(["background:#e3e8ef;", "background:#2f4a6d;color:#fff;", "border-bottom:2px solid #333;"])
    body = f'<table style="border-collapse:collapse;font:inherit"><tr style="{top}">{head}</tr>{rows}</table>'
    return body, "background:#fff;color:#16202c;padding:0.6em;"


def chart(scene, rng, wide):
    most = max(value for _, _, value in scene.bars)
    single = rng.choice([None, rng.choice(BAR_COLORS)])
    fills = [single or BAR_COLORS[index % len(BAR_COLORS)] for index in range(len(scene.bars))]
    title = f'<div style="font-weight:bold;font-size:1.15em;margin-bottom:0.4em">{escape(scene.title)}</div>'
    if scene.upright:
        tall = rng.uniform(7, 10)
        columns = "".join(
            f'<div style="text-align:center;min-width:2.6em"><div>{value}</div><div style="background:{fill};'
            f'margin:0 0.35em;height:{tall * value / most:.2f}em"></div></div>'
            for (_, _, value), fill in zip(scene.bars, fills))
        labels = "".join(f"<div style='text-align:center'>{escape(label)}</div>" for label, _, _ in scene.bars)
        grid = (f"display:grid;grid-template-columns:repeat({len(scene.bars)},auto);align-items:end;"
                f"column-gap:{0.5 * wide:.2f}em")
        # One grid, so that labels stand below their bars.
        body = f'{title}<div style="{grid}">{columns}{labels}</div>'
    else:
        long = rng.uniform(8, 12) * wide
        rows = "".join(
            f'<div style="text-align:right">{escape(label)}</div><div style="display:flex;gap:0.3em">'
            f'<div style="background:{fill};height:1.2em;width:{long * value / most:.2f}em"></div><div>{value}</div></div>'
            for (label, _, value), fill in zip(scene.bars, fills))
        body = (f'{title}<div style="display:grid;grid-template-columns:auto auto;column-gap:0.5em;row-gap:0.35em;'
                f'align-items:center">{rows}</div>')
    return body, "background:#fff;color:#222;padding:0.8em 1em;"


def form(scene, rng, wide):
    ground, accent, radius = rng.choice([("#f3f5f8", "#2f6fde", "0.3em"), ("#ffffff", "#157347", "0"),
                                         ("#fff9f0", "#b3541e", "0.6em")])
    across = rng.uniform(9, 13) * wide
    box = (f"font:inherit;width:{across:.1f}em;padding:0.2em 0.4em;border:1px solid #8793a1;border-radius:{radius};"
           "background:#fff;color:#111;box-sizing:border-box")
    above = rng.random() < 0.5
    rows = []
    for label, value in scene.fields:
        held = f'<input style="{box}" value="{escape(value)}">'
        rows.append(f'<div style="margin-bottom:0.45em"><div>{escape(label)}</div>{held}</div>' if above else
                    f'<div style="display:grid;grid-template-columns:7.5em auto;align-items:center;margin-bottom:0.45em">'
                    f"<span>{escape(label)}</span>{held}</div>")
    for label, checked in scene.checks:
        rows.append(f'<label style="display:block;margin-bottom:0.3em"><input type="checkbox" style="font:inherit;width:0.9em;height:0.9em;'
                    f'vertical-align:-0.05em;margin:0 0.5em 0 0" {"checked" if checked else ""}>{escape(label)}</label>')
    button = (f'<span style="display:inline-block;background:{accent};color:#fff;padding:0.3em 1em;border-radius:{radius};'
              f'margin-top:0.2em">{escape(scene.button)}</span>')
    title = f'<div style="font-size:1.3em;font-weight:bold;margin-bottom:0.4em">{escape(scene.title)}</div>'
    return title + "".join(rows) + button, f"background:{ground};color:#1d2733;padding:0.9em 1.1em;"


def shapes(scene, rng, size):
    """An SVG; `size` is the side of a shape's cell."""
    count = len(scene.shapes)
    columns = rng.randint(math.ceil(count / 3), min(count, 5)) if count > 3 else count
    rows = math.ceil(count / columns)
    cells = rng.sample([(cell % columns, cell // columns) for cell in range(columns * rows)], count)
    edge = rng.choice(["", "", 'stroke="#222" stroke-width="2"'])
    drawn = []
    for (color, shape), (column, row) in zip(scene.shapes, cells):
        radius = size * rng.uniform(0.25, 0.43)
        free = size / 2 - radius
        x, y = ((place + 0.5) * size + rng.uniform(-free, free) for place in (column, row))
        paint = f'fill="{COLORS[color]}" {edge}'
        if shape == "circle":
            drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" {paint}/>')
        elif shape == "square":
            half = radius * 0.85
            drawn.append(f'<rect x="{x - half:.1f}" y="{y - half:.1f}" width="{2 * half:.1f}" height="{2 * half:.1f}" {paint}/>')
        else:
            points = " ".join(f"{px:.1f},{py:.1f}" for px, py in polygon(shape, (x, y), radius))
            drawn.append(f'<polygon points="{points}" {paint}/>')
    ground = rng.choice(["#ffffff", "#f7f3e9", "#dde7f0"])
    return (f'<svg style="display:block;background:{ground}" width="{columns * size}" height="{rows * size}">'
            f'{"".join(drawn)}</svg>')
