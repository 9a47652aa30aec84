"""Fonts of families that the training generator does not have, found through fontconfig."""

import subprocess

# Family: Debian package. On a system without one of them, drawing stops with the package's name.
FAMILIES = {
    "Liberation Sans": "fonts-liberation",
    "Liberation Serif": "fonts-liberation",
    "Liberation Mono": "fonts-liberation",
    "Liberation Sans Narrow": "fonts-liberation",
    "Noto Sans": "fonts-noto-core",
    "Noto Serif": "fonts-noto-core",
    "Lato": "fonts-lato",
    "Cantarell": "fonts-cantarell",
    "Comic Neue": "fonts-comic-neue",
    "Fira Code": "fonts-firacode",
}


def file(family, bold=False):
    """Path of a family's regular or bold font."""
    style = "Bold" if bold else "Regular"
    asked = f"{family}:style={style}"
    found = subprocess.run(["fc-match", "-f", "%{family}\n%{file}", asked], check=True, capture_output=True, text=True)
    name, path = found.stdout.split("\n")
    if family not in name.split(","):
        raise SystemExit(f"font {family} is not there (found {name}); install the package {FAMILIES[family]}")
    return path
