"""Cuts the fonts of crates/data/fonts down to the characters that the generator draws.

Run by hand when a font or a character is added; building and testing never need it.

    for name in inter roboto ...; do npm pack @fontsource/$name; done   # unpack each into SOURCE/<name>/package
    python scripts/subset_fonts.py SOURCE DEJAVU_FOLDER

Needs fonttools. Outlines stay as they are; hinting, kerning and layout tables go, and every font gets a neutral
internal name because the Open Font License keeps reserved names for unmodified fonts. Licences are copied next to
the fonts. The families Liberation, Arimo, Noto Sans and Noto Serif (Latin), Ubuntu, Fira and Comic Neue are left
out on purpose: the test on unseen fonts draws with them.
"""

import pathlib
import shutil
import sys

from fontTools import subset
from fontTools.ttLib import TTFont

HERE = pathlib.Path(__file__).resolve().parent.parent / "crates" / "data"
LATIN = [chr(code) for code in range(0x20, 0x7F)] + list("£¥€¢°×éèüöäñçÉÖÜÄßà")

# output name: (package, weight)
LATIN_FONTS = {
    "inter-regular": ("inter", 400),
    "inter-bold": ("inter", 700),
    "roboto-light": ("roboto", 300),
    "roboto-medium": ("roboto", 500),
    "open-sans-regular": ("open-sans", 400),
    "open-sans-bold": ("open-sans", 700),
    "montserrat-medium": ("montserrat", 500),
    "montserrat-bold": ("montserrat", 800),
    "plex-sans-regular": ("ibm-plex-sans", 400),
    "pt-sans-regular": ("pt-sans", 400),
    "source-sans-regular": ("source-sans-3", 400),
    "quicksand-medium": ("quicksand", 500),
    "oswald-medium": ("oswald", 500),
    "roboto-condensed-regular": ("roboto-condensed", 400),
    "stix-regular": ("stix-two-text", 400),
    "stix-bold": ("stix-two-text", 700),
    "garamond-regular": ("eb-garamond", 400),
    "baskerville-regular": ("libre-baskerville", 400),
    "merriweather-light": ("merriweather", 300),
    "roboto-slab-medium": ("roboto-slab", 500),
    "jetbrains-mono-regular": ("jetbrains-mono", 400),
    "courier-prime-regular": ("courier-prime", 400),
    "courier-prime-bold": ("courier-prime", 700),
    "inconsolata-medium": ("inconsolata", 500),
    "vt323-regular": ("vt323", 400),
    "caveat-semibold": ("caveat", 600),
    "patrick-hand-regular": ("patrick-hand", 400),
    "kalam-regular": ("kalam", 400),
}
DEJAVU = {
    "dejavu-sans": "DejaVuSans.ttf",
    "dejavu-sans-bold": "DejaVuSans-Bold.ttf",
    "dejavu-serif": "DejaVuSerif.ttf",
    "dejavu-mono": "DejaVuSansMono.ttf",
}
CHINESE_FONTS = {"sans-sc-regular": ("noto-sans-sc", 400), "serif-sc-bold": ("noto-serif-sc", 700)}


def cut(source: pathlib.Path, name: str, characters: list[str]) -> None:
    font = TTFont(source)
    missing = [c for c in characters if ord(c) not in font.getBestCmap()]
    if missing:
        print(f"{name}: lacks {''.join(missing)}")
    options = subset.Options(
        layout_features=[], hinting=False, notdef_outline=False, name_IDs=[0, 1, 2, 3, 4, 6, 13, 14], glyph_names=False
    )
    options.drop_tables += ["GPOS", "GSUB", "GDEF", "kern", "gasp", "DSIG", "STAT", "meta", "FFTM", "prep", "fpgm", "cvt "]
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=[ord(c) for c in characters])
    subsetter.subset(font)
    for record in font["name"].names:
        if record.nameID in (1, 3, 4):
            record.string = f"bluelm data {name}"
        elif record.nameID == 6:
            record.string = f"bluelm-data-{name}"
    font.flavor = None
    font.save(HERE / "fonts" / f"{name}.ttf")


def main(packages: pathlib.Path, dejavu: pathlib.Path) -> None:
    chinese = sorted(set((HERE / "words" / "chinese.txt").read_text(encoding="utf-8")) - set("\n"))
    chinese = [c for c in chinese if ord(c) > 0xFF]
    licences = HERE / "fonts" / "licences"
    licences.mkdir(parents=True, exist_ok=True)
    for fonts, characters, script in ((LATIN_FONTS, LATIN, "latin"), (CHINESE_FONTS, chinese, "chinese-simplified")):
        for name, (package, weight) in fonts.items():
            folder = packages / package / "package"
            cut(folder / "files" / f"{package}-{script}-{weight}-normal.woff", name, characters)
            shutil.copy(folder / "LICENSE", licences / f"{package}.txt")
    for name, file in DEJAVU.items():
        cut(dejavu / file, name, LATIN)
    total = sum(file.stat().st_size for file in (HERE / "fonts").glob("*.ttf"))
    print(f"{len(list((HERE / 'fonts').glob('*.ttf')))} fonts, {total} bytes")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
