"""Makes a test set that owes nothing to the training generator: pictures drawn with Pillow and with headless Chromium,
in other font families and with other words, and their questions as a task file of `bluelm eval`.

    python3 scripts/make_foreign_set.py OUT --count 200 --seed 1
    python3 scripts/make_foreign_set.py OUT --small-text --count 125

OUT/questions.jsonl says for each question also who drew the picture (`by`). The same seed draws the same set as long as
fonts, Pillow and Chromium are the same. --small-text draws pictures whose text is 14 pixels or more high when the longer
side is fitted into 512 pixels (four tiles of 128) and less than 6 when it is fitted into a single tile of 128.

Needs Pillow, the Debian packages chromium and those named in foreign/fonts.py.
"""

import argparse
import json
import pathlib
import random

from foreign import browser, browser_pictures, content, pillow_pictures

CANVAS, TILE = 512, 128
# Text size in pixels that is left when the longer side is fitted into the canvas, and, for small text, into one tile.
LEAST, MOST_IN_ONE_TILE = 14, 5.5
# A larger PNG file becomes a JPEG.
MOST_BYTES = 30_000
# Pictures for one page of the browser: their heights must not exceed its window.
PAGE = 10


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=200, help="so many pictures")
    parser.add_argument("--questions", type=int, default=3, help="at most so many for each picture")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small-text", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    plans = [plan(arguments, index) for index in range(arguments.count)]
    draw_by_browser([plan for plan in plans if plan["by"] == "chromium"])
    lines = []
    for plan_ in plans:
        if plan_["by"] == "pillow":
            plan_["image"] = draw_by_pillow(plan_)
        lines += finish(plan_, arguments)
    (arguments.out / "questions.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    print(f"{len(plans)} pictures, {len(lines)} questions: {arguments.out}/questions.jsonl")


def plan(arguments, index):
    """What picture `index` shows and who draws it."""
    rng = random.Random(f"{arguments.seed} {index} {arguments.small_text}")
    weights = content.LONG_KINDS if arguments.small_text else content.KINDS
    kind = rng.choices(list(weights), list(weights.values()))[0]
    scene = content.invent(rng, kind, arguments.small_text)
    return {"index": index, "rng": rng, "scene": scene, "small": arguments.small_text,
            "by": "pillow" if index % 2 else "chromium", "size": text_size(rng, kind, arguments.small_text),
            "wide": rng.choice([1, 1, 1.3, 1.8]) if kind != "shapes" and not arguments.small_text else 1}


def text_size(rng, kind, small):
    if kind == "shapes":
        return rng.randint(60, 150)
    if small:
        return rng.randint(14, 20)
    return rng.randint(18, 60) if kind == "sign" else rng.randint(16, 30)


def draw_by_pillow(plan_):
    drawn = pillow_pictures.draw(plan_["scene"], plan_["rng"], plan_["size"], plan_["wide"])
    return pillow_pictures.effects(drawn, plan_["rng"]) if not plan_["small"] else drawn


def draw_by_browser(plans):
    for start in range(0, len(plans), PAGE):
        part = plans[start:start + PAGE]
        for plan_, image in zip(part, browser.pictures([html(plan_) for plan_ in part])):
            plan_["image"] = image


def html(plan_):
    if plan_["scene"].kind == "shapes":
        return browser_pictures.shapes(plan_["scene"], plan_["rng"], plan_["size"])
    return browser_pictures.card(plan_["scene"], plan_["rng"], plan_["size"], plan_["wide"])


def finish(plan_, arguments):
    """Writes the picture, unless its text is of the wrong size, and gives its lines of the task file."""
    rng, scene, image = plan_["rng"], plan_["scene"], plan_["image"]
    if plan_["small"] and scene.kind == "sign":
        image = pillow_pictures.far_away(image, rng, round(plan_["size"] * rng.uniform(24, 34)))
    longer = max(image.size)
    if scene.kind != "shapes":
        seen = plan_["size"] * CANVAS / longer
        in_one_tile = plan_["size"] * TILE / longer
        if seen < LEAST or plan_["small"] and in_one_tile > MOST_IN_ONE_TILE:
            return []
    name = save(image, arguments.out / f"{scene.kind}-{plan_['index']:03d}", rng)
    return [{"image": name, "question": one.question, "answer": one.answer, "kind": one.kind, "by": plan_["by"]}
            for one in content.choose_questions(rng, scene, arguments.questions, arguments.small_text)]


def save(image, path, rng):
    """Flat drawings mostly as PNG, what looks like a photograph as JPEG; gives the file's name."""
    colors = image.getcolors(1024)
    # A palette makes small files and changes hardly anything where there are few colours.
    flat = image.quantize(min(len(colors), 256), dither=0) if colors else image
    path = path.with_suffix(".png")
    flat.save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES or rng.random() < 0.08:
        path.unlink()
        path = path.with_suffix(".jpg")
        image.save(path, quality=rng.randint(75, 90))
    return path.name


if __name__ == "__main__":
    main()
