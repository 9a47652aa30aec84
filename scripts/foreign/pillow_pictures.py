"""Draws scenes with Pillow."""

import math

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from . import fonts
from .words import COLORS

# Ground, ink, accent: dark on light and light on dark.
PALETTES = [
    ("#ffffff", "#111111", "#b02020"), ("#fdf8ec", "#222222", "#336699"), ("#eef3f8", "#10233a", "#1f6f5c"),
    ("#f3eddf", "#3b2b20", "#8a4b1a"), ("#203040", "#f2f2f2", "#ffcc44"), ("#123d2a", "#ffffff", "#ffe08a"),
    ("#0b3d91", "#ffffff", "#ffd400"), ("#ffd400", "#111111", "#b00000"), ("#7a1420", "#fff4e6", "#ffcf6b"),
    ("#e6e6e6", "#1a1a1a", "#444488"),
]
BAR_COLORS = ["#4472c4", "#dd8452", "#55a868", "#8172b3", "#c44e52", "#937860", "#2a7f8e"]


class Pen:
    """Fonts, colours and measures of one picture; lengths are in pixels at a text size."""

    def __init__(self, rng, size, palette=None):
        self.rng, self.size = rng, size
        self.family = rng.choice(list(fonts.FAMILIES))
        self.regular = ImageFont.truetype(fonts.file(self.family), size)
        self.bold = ImageFont.truetype(fonts.file(self.family, bold=True), size)
        self.ground, self.ink, self.accent = palette or rng.choice(PALETTES)
        self.line = round(size * rng.uniform(1.3, 1.7))
        self.margin = round(size * rng.uniform(0.6, 1.4))

    def larger(self, factor, bold=True):
        return ImageFont.truetype(fonts.file(self.family, bold), round(self.size * factor))

    def canvas(self, width, height):
        image = Image.new("RGB", (math.ceil(width), math.ceil(height)), self.ground)
        return image, ImageDraw.Draw(image)


def width(font, text):
    return font.getlength(text)


def draw(scene, rng, size, wide=1.0):
    """The scene's picture with text of `size` pixels, before any effect. `wide` stretches gaps sideways."""
    return {"sign": sign, "receipt": prices, "menu": prices, "table": table, "chart": chart,
            "form": form, "shapes": shapes}[scene.kind](scene, rng, size, wide)


def sign(scene, rng, size, wide):
    pen = Pen(rng, size)
    font = pen.bold if rng.random() < 0.6 else pen.regular
    text_width = max(width(font, line) for line in scene.lines)
    pad, border = size * rng.uniform(0.6, 1.5), rng.choice([0, 0, max(2, size // 10)])
    full = (text_width + 2 * pad + 4 * border, len(scene.lines) * pen.line + 2 * pad + 4 * border)
    image, ink = pen.canvas(full[0] * wide, full[1])
    if border:
        box = (border, border, image.width - border - 1, image.height - border - 1)
        ink.rounded_rectangle(box, radius=rng.choice([0, size // 2]), outline=pen.accent, width=border)
    top = (image.height - len(scene.lines) * pen.line) / 2 + (pen.line - size) / 2
    for line in scene.lines:
        ink.text((image.width / 2, top), line, font=font, fill=pen.ink, anchor="ma")
        top += pen.line
    return image


def prices(scene, rng, size, wide):
    pen = Pen(rng, size, rng.choice(PALETTES[:4] if scene.kind == "receipt" else PALETTES))
    printed = [(name, scene.currency + scene.amount(price)) for name, price in scene.items]
    total = ("TOTAL" if rng.random() < 0.5 else "Total", scene.currency + scene.amount(scene.total or 0))
    names = max(width(pen.bold, name) for name, _ in [*printed, total])
    amounts = max(width(pen.bold, text) for _, text in [*printed, total])
    inner = max((names + amounts + size * rng.uniform(1.5, 4)) * wide, width(pen.larger(1.3), scene.title))
    rows = len(printed) + 2 + (2.2 if scene.total else 0) + sum(1 for line in scene.extra if line)
    image, ink = pen.canvas(inner + 2 * pen.margin, rows * pen.line + 2 * pen.margin)
    left, right, top = pen.margin, pen.margin + inner, pen.margin
    ink.text((image.width / 2, top), scene.title, font=pen.larger(1.3), fill=pen.accent, anchor="ma")
    top += 1.7 * pen.line
    if scene.extra:
        ink.text((image.width / 2, top), scene.extra[0], font=pen.regular, fill=pen.ink, anchor="ma")
        top += 1.2 * pen.line
    dots = scene.kind == "menu" and rng.random() < 0.4
    for name, text in printed:
        ink.text((left, top), name, font=pen.regular, fill=pen.ink)
        ink.text((right, top), text, font=pen.regular, fill=pen.ink, anchor="ra")
        if dots:
            x = left + width(pen.regular, name) + size * 0.5
            while x < right - width(pen.regular, text) - size * 0.6:
                ink.ellipse((x, top + size * 0.85, x + size * 0.12, top + size * 0.97), fill=pen.ink)
                x += size * 0.45
        top += pen.line
    if scene.total is not None:
        ink.line((left, top + size * 0.2, right, top + size * 0.2), fill=pen.ink, width=max(1, size // 14))
        top += 0.5 * pen.line
        ink.text((left, top), total[0], font=pen.bold, fill=pen.ink)
        ink.text((right, top), total[1], font=pen.bold, fill=pen.ink, anchor="ra")
        top += 1.3 * pen.line
    for line in scene.extra[1:]:
        ink.text((image.width / 2, top), line, font=pen.regular, fill=pen.ink, anchor="ma")
    return image.crop((0, 0, image.width, min(image.height, round(top + pen.line + pen.margin))))


def table(scene, rng, size, wide):
    pen = Pen(rng, size, rng.choice(PALETTES[:4]))
    grid = [scene.columns, *scene.rows]
    pad = size * rng.uniform(0.5, 0.9)
    widths = [(max(width(pen.bold, row[index]) for row in grid) + 2 * pad) * wide for index in range(len(scene.columns))]
    height = pen.line * 1.1
    image, ink = pen.canvas(sum(widths) + 2 * pen.margin, height * len(grid) + 2 * pen.margin)
    ruled, striped = rng.random() < 0.7, rng.random() < 0.4
    for number, row in enumerate(grid):
        left, top = pen.margin, pen.margin + number * height
        for cell, across in zip(row, widths):
            box = (left, top, left + across, top + height)
            if number == 0:
                ink.rectangle(box, fill="#d5dde8")
            elif striped and number % 2 == 0:
                ink.rectangle(box, fill="#e9e9e0")
            if ruled:
                ink.rectangle(box, outline="#666666")
            font = pen.bold if number == 0 else pen.regular
            ink.text((left + pad, top + height / 2), cell, font=font, fill=pen.ink, anchor="lm")
            left += across
    return image


def chart(scene, rng, size, wide):
    pen = Pen(rng, size, rng.choice(PALETTES[:4]))
    single = rng.choice([None, rng.choice(BAR_COLORS)])
    fills = [single or BAR_COLORS[index % len(BAR_COLORS)] for index in range(len(scene.bars))]
    return (standing if scene.upright else lying)(scene, pen, fills, wide)


def standing(scene, pen, fills, wide):
    size, most = pen.size, max(value for _, _, value in scene.bars)
    step = max(max(width(pen.regular, label) for label, _, _ in scene.bars) + size * 0.8, size * 3) * wide
    plot = size * pen.rng.uniform(7, 11)
    across = max(step * len(scene.bars), width(pen.larger(1.2), scene.title)) + 2 * pen.margin
    image, ink = pen.canvas(across, plot + 4.6 * size + 2 * pen.margin)
    ink.text((image.width / 2, pen.margin), scene.title, font=pen.larger(1.2), fill=pen.ink, anchor="ma")
    base = pen.margin + 3.2 * size + plot
    for index, ((label, _, value), fill) in enumerate(zip(scene.bars, fills)):
        middle, half = pen.margin + (index + 0.5) * step, step * 0.3
        top = base - plot * value / most
        ink.rectangle((middle - half, top, middle + half, base), fill=fill)
        ink.text((middle, top - size * 0.2), str(value), font=pen.regular, fill=pen.ink, anchor="ms")
        ink.text((middle, base + size * 0.25), label, font=pen.regular, fill=pen.ink, anchor="ma")
    ink.line((pen.margin, base, image.width - pen.margin, base), fill=pen.ink, width=max(1, size // 12))
    return image


def lying(scene, pen, fills, wide):
    size, most = pen.size, max(value for _, _, value in scene.bars)
    labels = max(width(pen.regular, label) for label, _, _ in scene.bars) + size * 0.5
    plot = size * pen.rng.uniform(8, 12) * wide
    image, ink = pen.canvas(labels + plot + 3 * size + 2 * pen.margin,
                            2.2 * size + 1.8 * size * len(scene.bars) + 2 * pen.margin)
    ink.text((pen.margin, pen.margin), scene.title, font=pen.larger(1.2), fill=pen.ink)
    left = pen.margin + labels
    for index, ((label, _, value), fill) in enumerate(zip(scene.bars, fills)):
        middle, right = pen.margin + 2.2 * size + (index + 0.5) * 1.8 * size, left + plot * value / most
        ink.rectangle((left, middle - 0.6 * size, right, middle + 0.6 * size), fill=fill)
        ink.text((left - size * 0.4, middle), label, font=pen.regular, fill=pen.ink, anchor="rm")
        ink.text((right + size * 0.4, middle), str(value), font=pen.regular, fill=pen.ink, anchor="lm")
    return image


def form(scene, rng, size, wide):
    pen = Pen(rng, size, rng.choice([("#f5f6f8", "#1d2733", "#2f6fde"), ("#ffffff", "#222222", "#228855")]))
    labels = max(width(pen.regular, label) for label, _ in scene.fields) + size
    values = max(max(width(pen.regular, value) for _, value in scene.fields) + size, size * 7) * wide
    title = pen.larger(1.3)
    height = 1.9 * size
    rows = len(scene.fields) + len(scene.checks) + 1
    inner = max(labels + values, width(title, scene.title))
    image, ink = pen.canvas(inner + 2 * pen.margin, rows * height * 1.2 + 2.6 * size + 2 * pen.margin)
    left, top = pen.margin, pen.margin
    ink.text((left, top), scene.title, font=title, fill=pen.ink)
    top += 2.4 * size
    for label, value in scene.fields:
        ink.text((left, top + height / 2), label, font=pen.regular, fill=pen.ink, anchor="lm")
        ink.rectangle((left + labels, top, left + labels + values, top + height), fill="#ffffff", outline="#8a94a0")
        ink.text((left + labels + size * 0.4, top + height / 2), value, font=pen.regular, fill="#111111", anchor="lm")
        top += height * 1.2
    for label, checked in scene.checks:
        box = (left, top + size * 0.35, left + size, top + size * 1.35)
        ink.rectangle(box, fill="#ffffff", outline="#555555", width=max(1, size // 12))
        if checked:
            points = [(left + size * 0.2, top + size * 0.85), (left + size * 0.42, top + size * 1.1),
                      (left + size * 0.82, top + size * 0.55)]
            ink.line(points, fill="#111111", width=max(2, size // 7))
        ink.text((left + size * 1.5, top + size * 0.85), label, font=pen.regular, fill=pen.ink, anchor="lm")
        top += height * 1.2
    across = width(pen.bold, scene.button) + 2 * size
    ink.rounded_rectangle((left, top, left + across, top + height), radius=size * 0.3, fill=pen.accent)
    ink.text((left + across / 2, top + height / 2), scene.button, font=pen.bold, fill="#ffffff", anchor="mm")
    return image


def shapes(scene, rng, size, wide):
    """`size` is the side of a shape's cell."""
    ground = rng.choice(["#ffffff", "#f4f1e8", "#dfe9f2", "#e8f0e2"])
    count = len(scene.shapes)
    columns = rng.randint(math.ceil(count / 3), min(count, 5)) if count > 3 else count
    cells = rng.sample([(cell % columns, cell // columns) for cell in range(columns * math.ceil(count / columns))], count)
    image = Image.new("RGB", (columns * size, math.ceil(count / columns) * size), ground)
    ink = ImageDraw.Draw(image)
    for (color, shape), (column, row) in zip(scene.shapes, cells):
        radius = size * rng.uniform(0.25, 0.44)
        free = size / 2 - radius
        center = ((column + 0.5) * size + rng.uniform(-free, free), (row + 0.5) * size + rng.uniform(-free, free))
        figure(ink, shape, center, radius, COLORS[color])
    return image


def figure(ink, shape, center, radius, fill):
    x, y = center
    if shape == "circle":
        ink.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    elif shape == "square":
        half = radius * 0.85
        ink.rectangle((x - half, y - half, x + half, y + half), fill=fill)
    else:
        ink.polygon(polygon(shape, center, radius), fill=fill)


def polygon(shape, center, radius):
    """Corners of a triangle or a star that stands upright."""
    corners, inner = (3, None) if shape == "triangle" else (10, 0.42)
    points = []
    for corner in range(corners):
        angle = 2 * math.pi * corner / corners - math.pi / 2
        length = radius * (inner if inner and corner % 2 else 1)
        points.append((center[0] + length * math.cos(angle), center[1] + length * math.sin(angle)))
    return points


def far_away(image, rng, side):
    """A picture of this longer side with the image small in it, as a sign on a wall."""
    width, height = max(image.width, side), max(image.height, round(side * rng.uniform(0.5, 1)))
    if rng.random() < 0.5 and image.width < height:
        width, height = height, width
    wall = Image.new("RGB", (width, height), rng.choice(["#d8cfc0", "#b8c4c9", "#8f9a88", "#f2f2ee", "#5b6470"]))
    wall.paste(image, (rng.randint(0, width - image.width), rng.randint(0, height - image.height)))
    return wall


def effects(image, rng):
    """What cameras, scanners and copies do, gently."""
    if rng.random() < 0.15:
        ground = image.getpixel((0, 0))
        image = image.rotate(rng.uniform(-1.5, 1.5), Image.Resampling.BICUBIC, expand=True, fillcolor=ground)
    if rng.random() < 0.15:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.6)))
    if rng.random() < 0.15:
        noise = Image.effect_noise(image.size, rng.uniform(4, 14)).convert("RGB")
        image = Image.blend(image, noise, 0.12)
    return image
