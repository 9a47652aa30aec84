"""One round of one group: asks everybody once, in turn, and prints one JSON line of figures for each, so that a round that is cut
off is not lost. Ours is the program itself, in a process for each round; it also measures what the machine can do at best.

Usage: round.py GROUP PROGRAM THREADS FOLDER NAME=BUNDLE... -- PEER...
"""

import json
import socket
import subprocess
import sys

# What a peer is asked in each group: a method of serve.py and sizes.
GROUPS = {"encode": [1, 4], "prefill": [512], "decode": [0, 2048]}
OPTIONS = {
    "encode": ["--batches", "1,4"],
    "prefill": ["--prompts", "512", "--chunks", "128"],
    "decode": ["--depths", "0,2048"],
}


def ours(group: str, program: str, threads: str, bundle: str) -> tuple[dict[str, float], dict]:
    """Figures by size, and the ceilings."""
    command = [program, "bench", "--model", bundle, "--threads", threads, "--only", group, "--runs", "1", "--json"]
    told = json.loads(subprocess.run(command + OPTIONS[group], check=True, capture_output=True, text=True).stdout)
    return {str(figure["x"]): figure["median"] for figure in told["figures"]}, told["ceilings"]


def theirs(group: str, folder: str, peer: str) -> dict[str, float]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{folder}/{peer}.socket")
        with connection.makefile("rw") as lines:
            figures = {}
            for size in GROUPS[group]:
                print(json.dumps({group: size}), file=lines, flush=True)
                figures[str(size)] = json.loads(lines.readline())["value"]
            return figures


def main() -> None:
    group, program, threads, folder, *rest = sys.argv[1:]
    middle = rest.index("--")
    for pair in rest[:middle]:
        name, bundle = pair.split("=", 1)
        figures, ceilings = ours(group, program, threads, bundle)
        print(json.dumps({"name": name, "figures": figures, "ceilings": ceilings}), flush=True)
    for peer in rest[middle + 1 :]:
        print(json.dumps({"name": peer, "figures": theirs(group, folder, peer)}), flush=True)


if __name__ == "__main__":
    main()
