"""One round of one group: asks everybody once, in turn, and prints one JSON line of figures. Ours is the program itself, in a
process for each round; it also measures what the machine can do at best.

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
    "prefill": ["--prompts", "512", "--chunks", "512"],
    "decode": ["--depths", "0,2048"],
}


def ours(group: str, program: str, threads: str, bundle: str) -> tuple[dict[str, float], dict]:
    """Figures by size, and the ceilings. Prefill in chunks of 128 as answers do it, and in one chunk of 512."""
    command = [program, "bench", "--model", bundle, "--threads", threads, "--only", group, "--runs", "1", "--json"]
    told = json.loads(subprocess.run(command + OPTIONS[group], check=True, capture_output=True, text=True).stdout)
    figures = {}
    for figure in told["figures"]:
        chunked = " in one chunk" if figure["group"] == "prefill in other chunks" else ""
        figures[f"{figure['x']}{chunked}"] = figure["median"]
    return figures, told["ceilings"]


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
    figures, ceilings = {}, []
    for pair in rest[:middle]:
        name, bundle = pair.split("=", 1)
        figures[name], ceiling = ours(group, program, threads, bundle)
        ceilings.append(ceiling)
    for peer in rest[middle + 1 :]:
        figures[peer] = theirs(group, folder, peer)
    print(json.dumps({"figures": figures, "ceilings": ceilings}))


if __name__ == "__main__":
    main()
