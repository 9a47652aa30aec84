"""What the test pictures show, and the questions that it answers without doubt. Nothing here knows how it is drawn.

Answers follow the conventions of the task files: amounts as printed without a currency sign, the text of a sign as
written with its lines joined by a space.
"""

import random
from dataclasses import dataclass, field

from . import words


@dataclass
class Question:
    kind: str
    question: str
    answer: str


@dataclass
class Scene:
    """One picture's content: `kind` says which of the other fields are filled."""

    kind: str
    lines: list = field(default_factory=list)      # sign: lines of text
    title: str = ""                                # shop, heading, chart title
    items: list = field(default_factory=list)      # receipt, menu: (name, price in hundredths)
    decimals: bool = True
    currency: str = ""                             # printed before each price
    total: int | None = None                       # printed total in hundredths
    extra: list = field(default_factory=list)      # further lines of text, such as a date
    columns: list = field(default_factory=list)    # table: names of columns
    rows: list = field(default_factory=list)       # table: rows of texts
    bars: list = field(default_factory=list)       # chart: (label, full name, value)
    upright: bool = True                           # chart: bars stand, else they lie
    fields: list = field(default_factory=list)     # form: (label, value)
    checks: list = field(default_factory=list)     # form: (label, checked)
    button: str = ""
    shapes: list = field(default_factory=list)     # (color, shape)
    questions: list = field(default_factory=list)

    def ask(self, kind, question, answer):
        self.questions.append(Question(kind, question, str(answer)))

    def amount(self, hundredths):
        """An amount as it is printed, without the currency sign."""
        if self.decimals:
            return f"{hundredths // 100}.{hundredths % 100:02d}"
        return str(hundredths // 100)


KINDS = {"sign": 30, "receipt": 12, "menu": 13, "table": 14, "chart": 14, "form": 8, "shapes": 9}
LONG_KINDS = {"receipt": 3, "menu": 3, "table": 2, "form": 2, "sign": 5}


def invent(rng, kind, long=False):
    """A scene of a kind. `long` makes it of so much text that a small picture of it cannot be read."""
    return {"sign": sign, "receipt": receipt, "menu": menu, "table": table, "chart": chart,
            "form": form, "shapes": shapes}[kind](rng, long)


def sign(rng, long):
    scene = Scene("sign")
    pick = rng.random()
    if pick < 0.55:
        text = rng.choice(words.SIGNS)
    elif pick < 0.75:
        text = " ".join(rng.sample(words.RARE, rng.randint(1, 3)))
    elif pick < 0.9:
        text = f"{rng.choice(words.PLACES)} {rng.randint(1, 499)}"
    else:
        text = f"{rng.choice(words.PLACES)} {rng.choice(words.RARE)} {rng.randint(1, 99)} km"
    if rng.random() < 0.4:
        text = text.upper()
    scene.lines = wrap(text, rng.randint(1, 3))
    whole = " ".join(scene.lines)
    scene.ask("read", "What does the sign say?", whole)
    parts = whole.split(" ")
    if len(parts) > 1 and rng.random() < 0.3:
        scene.ask("read", *rng.choice([("What is the first word on the sign?", parts[0]),
                                       ("What is the last word on the sign?", parts[-1])]))
    return scene


def wrap(text, lines):
    """Splits a text into about so many lines of like length, at spaces."""
    parts, made = text.split(" "), [[]]
    length = len(text) / lines
    for part in parts:
        if made[-1] and len(" ".join(made[-1])) + len(part) / 2 > length and len(made) < lines:
            made.append([])
        made[-1].append(part)
    return [" ".join(line) for line in made]


def priced(rng, scene, count, most):
    names = rng.sample(words.GOODS, count)
    scene.decimals = rng.random() < 0.75
    prices = rng.sample(range(1, most), count)
    for name, price in zip(names, prices):
        cents = rng.choice([0, 20, 25, 30, 45, 49, 50, 60, 75, 80, 90, 95, 99]) if scene.decimals else 0
        scene.items.append((name, price * 100 + cents))
    scene.currency = rng.choice(["", "", "$", "€", "£"])


def ask_prices(rng, scene):
    for name, price in rng.sample(scene.items, min(2, len(scene.items))):
        name = name.lower() if rng.random() < 0.6 else name
        wordings = ["What is the price of {}?", "How much is the {}?", "How much is the {}?", "What does the {} cost?"]
        # "The olives is" would be wrong.
        wording = wordings[0] if name.endswith("s") else rng.choice(wordings)
        scene.ask("lookup", wording.format(name), scene.amount(price))
    high, low = max(scene.items, key=lambda item: item[1]), min(scene.items, key=lambda item: item[1])
    scene.ask("compare", "Which item is the most expensive?", high[0])
    if rng.random() < 0.5:
        scene.ask("compare", "Which item is the cheapest?", low[0])
    # Where the sum is printed, adding is reading.
    if len(scene.items) <= 6 and scene.total is None:
        scene.ask("sum", "What do all items cost together?", scene.amount(sum(price for _, price in scene.items)))
    scene.ask("count", "How many items are there?", len(scene.items))


def receipt(rng, long):
    scene = Scene("receipt", title=rng.choice(words.SHOPS))
    priced(rng, scene, rng.randint(10, 14) if long else rng.randint(2, 6), 40)
    scene.total = sum(price for _, price in scene.items)
    scene.extra = [f"{rng.randint(1, 28):02d}.{rng.randint(1, 12):02d}.20{rng.randint(20, 27)}",
                   rng.choice(["Thank you", "See you soon", "Goodbye", ""])]
    scene.ask("total", "What is the total?", scene.amount(scene.total))
    ask_prices(rng, scene)
    scene.ask("read", rng.choice(["What is the name of the shop?", "What is the date?"]), scene.title)
    if "date" in scene.questions[-1].question:
        scene.questions[-1].answer = scene.extra[0]
    return scene


def menu(rng, long):
    scene = Scene("menu", title=rng.choice(words.HEADINGS))
    priced(rng, scene, rng.randint(10, 14) if long else rng.randint(2, 7), 30)
    ask_prices(rng, scene)
    scene.ask("read", "What is the title?", scene.title)
    return scene


def table(rng, long):
    scene = Scene("table")
    key, names = rng.choice(list(words.TABLE_KEYS.items()))
    count = rng.randint(9, 12) if long else rng.randint(3, 5)
    others = rng.sample(list(words.TABLE_COLUMNS), rng.randint(2, 3) if not long else 3)
    scene.columns = [key, *others]
    columns = [rng.sample(names, count)] + [words.cells(rng, other, count) for other in others]
    scene.rows = [list(row) for row in zip(*columns)]
    if count >= 3 and "Price" in others:
        scene.ask("table", "What is in row 3, column Price?", scene.rows[2][scene.columns.index("Price")])
    for _ in range(2):
        row, column = rng.randrange(count), rng.randrange(len(scene.columns))
        scene.ask("table", f"What is in row {row + 1}, column {scene.columns[column]}?", scene.rows[row][column])
    row, column = rng.randrange(count), rng.randrange(1, len(scene.columns))
    # "What is the points" would be wrong.
    if scene.columns[column] != "Points":
        scene.ask("table", f"What is the {scene.columns[column].lower()} of {scene.rows[row][0]}?", scene.rows[row][column])
    numeric = [index for index, name in enumerate(scene.columns) if name in words.NUMERIC]
    if numeric:
        column = rng.choice(numeric)
        values = [float(row[column]) for row in scene.rows]
        if values.count(max(values)) == 1:
            question = f"Which {key.lower()} has the highest {scene.columns[column].lower()}?"
            scene.ask("compare", question, scene.rows[values.index(max(values))][0])
    scene.ask("count", "How many rows are there without the header?", count)
    return scene


def chart(rng, long):
    scene = Scene("chart", title=rng.choice(words.CHART_TITLES), upright=rng.random() < 0.7)
    count = rng.randint(3, 6)
    if rng.random() < 0.5:
        start = rng.randint(0, 12 - count)
        short = rng.random() < 0.5
        names = [(name[:3] if short else name, name) for name in words.MONTHS[start:start + count]]
    else:
        names = [(name, name) for name in rng.sample(rng.choice(words.CHART_GROUPS), count)]
    most = rng.choice([20, 60, 100, 500])
    values = rng.sample(range(max(2, most // 8), most), count)
    scene.bars = [(label, name, value) for (label, name), value in zip(names, values)]
    for label, name, value in rng.sample(scene.bars, 2):
        scene.ask("chart", f"What is the value of {name}?", value)
    high, low = ("highest", "lowest") if scene.upright else ("largest", "smallest")
    scene.ask("chart", f"Which bar is the {high}?", max(scene.bars, key=lambda bar: bar[2])[0])
    if rng.random() < 0.5:
        scene.ask("chart", f"Which bar is the {low}?", min(scene.bars, key=lambda bar: bar[2])[0])
    first, second = rng.sample(scene.bars, 2)
    scene.ask("compare", f"Which is higher, {first[1]} or {second[1]}?", max(first, second, key=lambda bar: bar[2])[0])
    scene.ask("sum", f"What is the sum of {first[1]} and {second[1]}?", first[2] + second[2])
    scene.ask("count", "How many bars are there?", count)
    scene.ask("read", "What is the title?", scene.title)
    return scene


def form(rng, long):
    scene = Scene("form", title=rng.choice(words.FORM_TITLES), button=rng.choice(words.BUTTONS))
    labels = rng.sample(list(words.FORM_FIELDS), rng.randint(8, 10) if long else rng.randint(2, 4))
    scene.fields = [(label, words.field_value(rng, label)) for label in labels]
    scene.checks = [(label, rng.random() < 0.5) for label in rng.sample(words.CHECKS, rng.randint(0, 2))]
    for label, value in rng.sample(scene.fields, 2):
        scene.ask("form", f"What is the {label.lower()}?", value)
    for label, checked in scene.checks[:1]:
        scene.ask("form", f"Is {label} checked?", "yes" if checked else "no")
    scene.ask("read", "What is the title?", scene.title)
    scene.ask("form", "What does the button say?", scene.button)
    return scene


def shapes(rng, long):
    scene = Scene("shapes")
    kinds = set()
    while len(kinds) < rng.randint(2, 4):
        kinds.add((rng.choice(list(words.COLORS)), rng.choice(words.SHAPES)))
    kinds = sorted(kinds)
    scene.shapes = [rng.choice(kinds) for _ in range(rng.randint(2, 9))]
    count = lambda color=None, shape=None: sum((not color or one == color) and (not shape or other == shape)
                                               for one, other in scene.shapes)
    color, shape = rng.choice(kinds)
    scene.ask("count", f"How many {color} {shape}s are there?", count(color, shape))
    color, shape = rng.choice(scene.shapes)
    scene.ask("count", f"How many {shape}s are there?", count(shape=shape))
    if rng.random() < 0.5:
        scene.ask("count", f"How many {color} shapes are there?", count(color))
    else:
        scene.ask("count", "How many shapes are there?", len(scene.shapes))
    for index, plural in ((1, "{}s"), (0, "{} shapes")):
        present = sorted({pair[index] for pair in scene.shapes})
        if len(present) > 1:
            first, second = rng.sample(present, 2)
            numbers = [sum(pair[index] == name for pair in scene.shapes) for name in (first, second)]
            if numbers[0] != numbers[1]:
                winner = first if numbers[0] > numbers[1] else second
                tail = "?" if index == 1 else " shapes?"
                name = "{}s" if index == 1 else "{}"
                scene.ask("compare", f"Are there more {name.format(first)} or {name.format(second)}{tail}",
                          name.format(winner))
    unique = [pair for pair in scene.shapes if count(shape=pair[1]) == 1]
    if unique:
        scene.ask("lookup", f"What color is the {unique[0][1]}?", unique[0][0])
    return scene


# What only this kind of scene can ask.
OWN = {"receipt": "total", "menu": "sum", "chart": "chart", "table": "table", "shapes": "count", "sign": "read",
       "form": "form"}
# Answered without reading small letters: titles are larger, lines can be counted, half of all boxes are checked.
WITHOUT_SMALL_TEXT = ("What is the title?", "What is the name of the shop?", "How many ", "Is ")


def choose_questions(rng, scene, most, small_text=False):
    """At most so many questions, none twice: of the scene's own kind first, then of as many kinds as possible.
    `small_text` keeps to those that cannot be answered without reading the small letters."""
    questions = {question.question: question for question in reversed(scene.questions)
                 if not (small_text and question.question.startswith(WITHOUT_SMALL_TEXT))}
    left = list(questions.values())
    rng.shuffle(left)
    chosen = []
    while left and len(chosen) < most:
        kinds = [question.kind for question in chosen]
        best = min(left, key=lambda question: lateness(question.kind, kinds, OWN[scene.kind]))
        left.remove(best)
        chosen.append(best)
    return chosen


def lateness(kind, asked, own):
    """The question of the least of these is asked next: the scene's own kind twice, one price, then kinds not yet asked;
    counting lines, which asks for little reading, comes late."""
    if kind == own:
        return asked.count(kind) * 0.7 - 1
    return asked.count(kind) + {"lookup": -0.2, "count": 0.6}.get(kind, 0)
