#!/usr/bin/env python3
"""Make the small picture files and expected values that crates/image-prep is tested against. Never needed to build or test.

    make_image_fixtures.py            writes crates/image-prep/tests/fixtures/

Needs Pillow and numpy. What it writes:

    decode/*                one small file of each kind, and decode.tsv: file, expected picture, largest difference allowed
    expected/*.png          what Pillow makes of them (upright, over white, 8-bit RGB)
    resize.tsv              pattern, seed, sizes, filter -> CRC-32 of Pillow's resized bytes
    grids.tsv               1,000 random sizes and some special ones -> the grids that the three tiling rules choose
    prepare.tsv             settings, pattern, seed, size -> grid, placement, CRC-32 of the float32 pixel values

Pictures for resize.tsv and prepare.tsv are drawn by `pattern`, which the tests repeat in Rust.
"""
import io
import itertools
import json
import math
import os
import random
import struct
import zlib

import numpy as np
import PIL
from PIL import Image, ImageOps, features

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "crates", "image-prep", "tests", "fixtures")
FILTERS = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}


def resize(image, size, filter):
    """Pillow's resize with the horizontal pass first, whatever the version (13 picks the order by size)."""
    if size[0] != image.width and size[1] != image.height:
        image = image.resize((size[0], image.height), filter)
    return image.resize(size, filter)


def pattern(kind, seed, width, height):
    """noise: bytes of a small hash; extremes: 0 or 255, where clipping bites; ramp: smooth."""
    index = np.arange(3 * width * height, dtype=np.uint32)
    with np.errstate(over="ignore"):
        x = (index + np.uint32(seed)) * np.uint32(2654435761)
        x ^= x >> np.uint32(15)
        x *= np.uint32(2246822519)
        x ^= x >> np.uint32(13)
    noise = (x >> np.uint32(8)).astype(np.uint8)
    if kind == "extremes":
        noise = np.where(noise & 1, 255, 0).astype(np.uint8)
    elif kind == "ramp":
        channel, pixel = index % 3, index // 3
        column, row = pixel % width, pixel // width
        noise = ((column * (3 + channel) + row * 5 + seed) % 256).astype(np.uint8)
    return Image.fromarray(noise.reshape(height, width, 3))


# ------------------------------------------------------------------------------------------------------------ resize
def write_resize():
    rng = random.Random(20)
    sizes = [((190, 121), (196, 112)), ((40, 133), (34, 112)), ((301, 777), (384, 700)), ((1, 1), (7, 5)), ((1, 1), (1, 1)),
             ((7, 5), (1, 1)), ((64, 64), (64, 64)), ((64, 48), (64, 96)), ((64, 48), (128, 48)), ((500, 102), (768, 157)),
             ((2, 3), (384, 384)), ((1000, 3), (37, 2)), ((3, 1000), (2, 37)), ((333, 222), (332, 223)), ((1200, 900), (384, 288))]
    while len(sizes) < 120:
        side = lambda: int(2 ** rng.uniform(0, 8.6))
        sizes.append(((side(), side()), (side(), side())))
    rows = ["# pattern seed width height new_width new_height filter crc32"]
    for index, ((w, h), size) in enumerate(sizes):
        for name, filter in FILTERS.items():
            for kind in ("noise", "extremes") if index % 3 else ("noise", "extremes", "ramp"):
                image = resize(pattern(kind, index, w, h), size, filter)
                rows.append(f"{kind}\t{index}\t{w}\t{h}\t{size[0]}\t{size[1]}\t{name}\t{zlib.crc32(image.tobytes()):08x}")
    write("resize.tsv", rows)


# ----------------------------------------------------------------------------------------------------------- prepare
def relaxed(w, h, tile, grid, alpha):
    best, effective, waste = (1, 1), 0, math.inf
    for m, n in itertools.product(range(grid[0], 0, -1), range(grid[1], 0, -1)):
        s = min(m * tile / w, n * tile / h)
        e = min(int(w * s) * int(h * s), w * h)
        wasted = m * n * tile * tile - e
        if e - effective > alpha * effective or (effective - e < alpha * effective and wasted < waste):
            best, effective, waste = (m, n), e, wasted
    return best


def llava_next(w, h, tile, grid):
    def key(g):
        s = min(g[0] * tile / w, g[1] * tile / h)
        e = min(int(w * s) * int(h * s), w * h)
        return (-e, g[0] * g[1] * tile * tile - e)
    return min(itertools.product(range(1, grid[0] + 1), range(1, grid[1] + 1)), key=key)


def internvl(w, h, tile, most):
    best, nearest = (1, 1), math.inf
    for count in range(1, most + 1):
        for m in (m for m in range(1, count + 1) if count % m == 0):
            distance = abs(w / h - m / (count // m))
            if distance < nearest or (distance == nearest and w * h > 0.5 * tile * tile * count):
                best, nearest = (m, count // m), distance
    return best


def fit(image, canvas, rounding, filter, color):
    """Fitted and centred on color -> canvas, size, offset. rounding: half-up, ceil or stretch."""
    (w, h), (W, H) = image.size, canvas
    sw, sh = W / w, H / h
    if rounding == "stretch":
        size = (W, H)
    elif rounding == "half-up":
        s = min(sw, sh)
        size = tuple(min(max(math.floor(v * s + 0.5), 1), limit) for v, limit in ((w, W), (h, H)))
    elif sw < sh:
        size = (W, min(math.ceil(h * sw), H))
    else:
        size = (min(math.ceil(w * sh), W), H)
    at = ((W - size[0]) // 2, (H - size[1]) // 2)
    page = Image.new("RGB", canvas, tuple(color))
    page.paste(resize(image, size, filter), at)
    return page, size, at


def prepare(image, settings):
    t, color, filter = settings["tile_size"], settings.get("pad_color", [0, 0, 0]), settings["resample"]
    if settings["tiling"] == "relaxed":
        m, n = relaxed(*image.size, t, settings["max_grid"], settings["alpha"])
        rules = "half-up", "half-up"
    elif settings["tiling"] == "llava-next":
        m, n = llava_next(*image.size, t, settings["max_grid"])
        rules = "ceil", "stretch"
    else:
        m, n = internvl(*image.size, t, settings["max_tiles"])
        rules = "stretch", "stretch"
    page, size, at = fit(image, (m * t, n * t), rules[0], filter, color)
    tiles = [page.crop((c * t, r * t, c * t + t, r * t + t)) for r in range(n) for c in range(m)]
    if m * n > 1 and settings["thumbnail"]:
        view = fit(image, (t, t), rules[1], filter, color)[0]
        tiles.insert(len(tiles) if settings["tiling"] == "internvl" else 0, view)
    x = np.stack([np.asarray(v) for v in tiles]).astype(np.float64) * settings["rescale_factor"]
    x = (x - np.array(settings["image_mean"])) / np.array(settings["image_std"])
    return (m, n), size, at, len(tiles), np.ascontiguousarray(x.transpose(0, 3, 1, 2).astype("<f4"))


def write_grids():
    rng = random.Random(665)
    sizes = [(1, 1), (4000, 1), (1, 4000), (65535, 65535), (131072, 1), (384, 384), (385, 384), (768, 1536), (1080, 2400), (3024, 4032)]
    while len(sizes) < 1010:
        sizes.append(tuple(int(2 ** rng.uniform(*span)) for span in [((0, 13), (5, 12), (8, 11.5))[len(sizes) % 3]] * 2))
    rows = ["# width height, then for tiles of 384: relaxed 3x3 and 4x4 (alpha 0.1), LLaVA-NeXT 3x3 and 4x4, InternVL 1.5 up to 6, 9 and 12"]
    for w, h in sizes:
        grids = [relaxed(w, h, 384, (k, k), 0.1) for k in (3, 4)] + [llava_next(w, h, 384, (k, k)) for k in (3, 4)]
        grids += [internvl(w, h, 384, most) for most in (6, 9, 12)]
        rows.append("\t".join([str(w), str(h)] + [f"{m}:{n}" for m, n in grids]))
    write("grids.tsv", rows)


def write_prepare():
    base = dict(image_processor_type="BlueLMVImageProcessor", tiling="relaxed", alpha=0.1, tile_size=48, max_grid=[4, 4], thumbnail=True,
                resample=3, pad_color=[0, 0, 0], rescale_factor=1 / 255, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    other = dict(pad_color=[123, 117, 104], image_mean=[0.48145466, 0.4578275, 0.40821073], image_std=[0.26862954, 0.26130258, 0.27577711])
    settings = [base, dict(base, alpha=0.2, max_grid=[3, 2], thumbnail=False, tile_size=70, resample=2, **other),
                dict(base, tiling="llava-next", tile_size=40, **other), dict(base, tiling="llava-next", tile_size=40, resample=1, thumbnail=False),
                dict(base, tiling="internvl", tile_size=56, min_tiles=1, max_tiles=12, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])]
    for s in settings[2:]:
        del s["alpha"]
    for key in ("max_grid", "pad_color"):
        del settings[4][key]
    rng = random.Random(7)
    sizes = [(1, 1), (500, 102), (102, 500), (394, 390), (400, 1), (1, 400), (48, 48), (96, 48), (49, 49), (190, 121), (40, 233)]
    sizes += [(int(2 ** rng.uniform(3, 9)), int(2 ** rng.uniform(3, 9))) for _ in range(14)]
    rows = ["# settings pattern seed width height columns rows resized_width resized_height left top tiles crc32"]
    for index, s in enumerate(settings):
        rows.append(f"settings\t{index}\t{json.dumps(s)}")
        for seed, (w, h) in enumerate(sizes):
            kind = ("noise", "extremes", "ramp")[seed % 3]
            grid, size, at, tiles, values = prepare(pattern(kind, seed, w, h), s)
            numbers = [*grid, *size, *at, tiles]
            rows.append("\t".join(map(str, [index, kind, seed, w, h, *numbers, f"{zlib.crc32(values.tobytes()):08x}"])))
    write("prepare.tsv", rows)


# ------------------------------------------------------------------------------------------------------------ decode
def photo(width=23, height=17):
    """Smooth, coloured, nowhere symmetric: turned or mirrored it is another picture, and JPEG keeps it well."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    rgb = np.stack([40 + 8 * x, 220 - 6 * y - 3 * x, 30 + 5 * y + 60 * np.sin(x / 6 + y / 9) ** 2], -1)
    return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))


def with_alpha(image):
    """Every opacity from 0 to 255 somewhere."""
    w, h = image.size
    alpha = (np.arange(w * h) * 7 % 256).astype(np.uint8).reshape(h, w)
    out = image.convert("RGBA")
    out.putalpha(Image.fromarray(alpha))
    return out


def over_white(image):
    """The picture that a model should see."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def png16(array, color_type):
    """A 16-bit PNG, which Pillow does not write except in grey."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    h, w = array.shape[:2]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in array)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 16, color_type, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))


def ycck_jpeg(cmyk):
    """A YCCK JPEG: C, M, Y as YCbCr and the Adobe marker saying so. Pillow writes plain CMYK only, so the marker is changed."""
    c, m, y, k = cmyk.split()
    inks = Image.merge("RGB", [ImageOps.invert(v) for v in (c, m, y)]).convert("YCbCr").split()
    # Pillow inverts what it writes in CMYK; the YCbCr of a YCCK file are those of the inverted inks, K is inverted too.
    stored = Image.merge("CMYK", [ImageOps.invert(v) for v in inks] + [k])
    data = bytearray(encode(stored, "JPEG", quality=97))
    at = data.index(b"Adobe")
    assert data[at + 11] == 0
    data[at + 11] = 2
    return bytes(data)


def encode(image, format, **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def orientation(number):
    exif = Image.Exif()
    exif[0x112] = number
    return exif


def turned(upright, number):
    """What a camera stores when this EXIF orientation makes `upright` of it."""
    undo = {1: None, 2: Image.FLIP_LEFT_RIGHT, 3: Image.ROTATE_180, 4: Image.FLIP_TOP_BOTTOM, 5: Image.TRANSPOSE,
            6: Image.ROTATE_90, 7: Image.TRANSVERSE, 8: Image.ROTATE_270}[number]
    return upright if undo is None else upright.transpose(undo)


def write_decode():
    rgb, rows = photo(), ["# file expected_picture largest_difference"]
    grey, palette = rgb.convert("L"), rgb.quantize(16, dither=0)
    rgba, la = with_alpha(rgb), with_alpha(rgb.convert("L").convert("RGB")).convert("LA")
    cmyk = Image.fromarray(np.stack([*(255 - np.asarray(rgb)).transpose(2, 0, 1), np.asarray(grey) // 3], -1), "CMYK")
    jpeg = dict(quality=97, subsampling=0)

    def add(name, data, expected=None, difference=0, picture=None):
        """expected: the RGB image, else what Pillow reads; picture: the name of the expected file, else the file's."""
        image = expected or over_white(Image.open(io.BytesIO(data)))
        picture = picture or name.replace(".", "-") + ".png"
        write_bytes(os.path.join("decode", name), data)
        write_bytes(os.path.join("expected", picture), encode(image, "PNG", optimize=True))
        rows.append(f"{name}\t{picture}\t{difference}")

    # PNG
    for name, image in dict(rgb=rgb, grey=grey, grey_alpha=la, rgba=rgba, palette=palette, bilevel=rgb.convert("1"),
                            palette_2_bits=rgb.quantize(4, dither=0), palette_1_bit=rgb.quantize(2, dither=0)).items():
        add(f"{name}.png", encode(image, "PNG"))
    add("palette_alpha.png", encode(palette, "PNG", transparency=bytes([0, 64, 128, 200])))
    add("transparent_color.png", encode(rgb, "PNG", transparency=rgb.getpixel((3, 4))))
    add("transparent_grey.png", encode(grey, "PNG", transparency=grey.getpixel((3, 4))))
    add("one_pixel.png", encode(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG"))
    wide = np.random.default_rng(1).integers(0, 65536, (17, 23, 4)).astype(np.uint16)
    high = lambda a: Image.fromarray((a >> 8).astype(np.uint8))
    add("grey_16.png", png16(wide[..., 0], 0), high(wide[..., 0]).convert("RGB"))
    add("rgb_16.png", png16(wide[..., :3], 2), high(wide[..., :3]))
    add("rgba_16.png", png16(wide, 6), over_white(high(wide)))
    add("grey_alpha_16.png", png16(wide[..., :2], 4), over_white(Image.merge("LA", [high(wide[..., 0]), high(wide[..., 1])])))
    # JPEG: another decoder may round each of Y, Cb and Cr by a level, and blue is Y + 1.772 Cb: at most 3 levels of RGB
    for name, image, options in (("rgb", rgb, jpeg), ("progressive", rgb, dict(jpeg, progressive=True)), ("grey", grey, jpeg),
                                 ("subsampled", rgb, dict(quality=97, subsampling=2)), ("cmyk", cmyk, dict(quality=97)),
                                 ("one_pixel", Image.new("RGB", (1, 1), (200, 30, 60)), jpeg)):
        add(f"{name}.jpg", encode(image, "JPEG", **options), difference=3)
    add("ycck.jpg", ycck_jpeg(cmyk), difference=3)
    # WebP, GIF, BMP
    add("lossless.webp", encode(rgb, "WEBP", lossless=True))
    add("lossless_alpha.webp", encode(rgba, "WEBP", lossless=True, exact=True))
    add("lossy.webp", encode(rgb, "WEBP", quality=90))
    add("animated.webp", encode(rgb, "WEBP", lossless=True, save_all=True, append_images=[turned(rgb, 3)]))
    add("plain.gif", encode(palette, "GIF"))
    add("transparent.gif", encode(palette, "GIF", transparency=palette.getpixel((3, 4))))
    add("animated.gif", encode(palette, "GIF", save_all=True, append_images=[turned(palette, 3)]))
    add("interlaced.gif", encode(palette, "GIF", interlace=1))
    for name, image in dict(rgb=rgb, grey=grey, palette=palette, bilevel=rgb.convert("1")).items():
        add(f"{name}.bmp", encode(image, "BMP"))
    # TIFF
    for name, image, options in (("rgb", rgb, {}), ("lzw", rgb, dict(compression="tiff_lzw")), ("deflate", rgb, dict(compression="tiff_adobe_deflate")),
                                 ("packbits", rgb, dict(compression="packbits")), ("grey", grey, {}), ("rgba", rgba, {}), ("cmyk", cmyk, {}),
                                 ("bilevel", rgb.convert("1"), {})):
        difference = 1 if name == "cmyk" else 0
        add(f"{name}.tif", encode(image, "TIFF", **options), difference=difference)
    add("grey_16.tif", encode(Image.fromarray(wide[..., 0]), "TIFF"), high(wide[..., 0]).convert("RGB"))
    # EXIF orientation: eight ways to store one picture
    for number in range(1, 9):
        stored, exif = turned(rgb, number), orientation(number)
        upright = dict(expected=rgb, picture="upright.png")
        add(f"orientation_{number}.jpg", encode(stored, "JPEG", exif=exif, **jpeg), difference=3)
        add(f"orientation_{number}.png", encode(stored, "PNG", exif=exif), **upright)
        add(f"orientation_{number}.webp", encode(stored, "WEBP", lossless=True, exif=exif), **upright)
        add(f"orientation_{number}.tif", encode(stored, "TIFF", tiffinfo={0x112: number}), **upright)
    write("decode.tsv", rows)


def write(name, rows):
    write_bytes(name, ("\n".join(rows) + "\n").encode())


def write_bytes(name, data):
    path = os.path.join(OUT, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


if __name__ == "__main__":
    print("Pillow", PIL.__version__, "libjpeg", features.version("jpg"), "webp", features.version("webp"))
    write_resize()
    write_grids()
    write_prepare()
    write_decode()
