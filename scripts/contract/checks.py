"""What the contract scripts share: checks that are counted, and end the script when one fails."""

import sys

checks = 0


def check(what, holds, found=None):
    global checks
    checks += 1
    print(f"{'ok  ' if holds else 'FAIL'} {what}")
    if not holds:
        sys.exit(f"{what}: {found!r}")


def passed():
    print(f"{checks} checks passed")
