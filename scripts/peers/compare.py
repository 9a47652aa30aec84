#!/usr/bin/env python3
"""Peers and `bluelm bench` on the same shapes, in turn, on this machine: prints tables for docs/numbers.md.

    python3 scripts/peers/compare.py CACHE --bundle fast=v3b.bluelm

CACHE takes a virtual environment with the peers from PyPI, models of random weights (6 GB) and results; `--clean` removes the models
afterwards. The bundles are made by `bluelm bench --shape bluelm-v-3b --file v3b.bluelm`. `--hold CMD` runs each round, of less
than two minutes, under a command that keeps the machine quiet meanwhile.

Every peer is set up as it was found to be fastest: OpenVINO with INT8 weights and activations (nncf), with INT8 weights and bf16,
its GenAI pipeline with INT4 weights and keys and values in u8; llama.cpp with Q4_0 repacked for this processor and flash
attention, keys and values in f16 and q8_0; onnxruntime with INT8 by its own fused operators. ik_llama.cpp is not on PyPI, so it
is absent.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
MODELS = {
    "encoder-w8a8.xml": "openvino_encoder.py {cache}/encoder-w8a8.xml w8a8",
    "encoder-w8.xml": "openvino_encoder.py {cache}/encoder-w8.xml w8",
    "encoder-int8.onnx": "onnx_encoder.py {cache}",
    "decoder.gguf": "gguf_decoder.py {cache}/decoder.gguf",
    "decoder-int4/openvino_model.xml": "openvino_decoder.py {cache}/decoder.gguf {cache}/decoder-int4",
}
# Name: kind in serve.py, model, settings.
ENCODERS = {
    "OpenVINO W8A8": ("openvino-encoder", "encoder-w8a8.xml"),
    "OpenVINO W8 bf16": ("openvino-encoder", "encoder-w8.xml", "bf16"),
    "onnxruntime INT8": ("onnxruntime-encoder", "encoder-int8.onnx"),
}
DECODERS = {
    "OpenVINO INT4, u8": ("openvino-decoder", "decoder-int4", "u8"),
    "llama.cpp Q4_0, f16": ("llama.cpp-decoder", "decoder.gguf", "f16"),
    "llama.cpp Q4_0, q8_0": ("llama.cpp-decoder", "decoder.gguf", "q8_0"),
}
GROUPS = {"encode": ENCODERS, "prefill": DECODERS, "decode": DECODERS}
UNITS = {"encode": "ms a tile", "prefill": "token/s", "decode": "token/s"}
WHAT = {
    ("encode", "1"): "encode, tile by tile",
    ("encode", "4"): "encode, four tiles at once",
    ("prefill", "512"): "prefill, 512 rows",
    ("decode", "0"): "decode at depth 0",
    ("decode", "2048"): "decode at depth 2048",
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--bundle", action="append", required=True, metavar="NAME=FILE", help="ours, may be given several times")
    parser.add_argument("--program", default="target/release/bluelm")
    parser.add_argument("--only", default=",".join(GROUPS), help="encode, prefill, decode")
    parser.add_argument("--skip", action="append", default=[], metavar="PEER", help="may be given several times")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default="2")
    parser.add_argument("--hold", default="", help="a command that the rounds run under")
    parser.add_argument("--clean", action="store_true", help="remove the models afterwards")
    return parser.parse_args()


def run(command: list, **more) -> None:
    print("+", shlex.join(map(str, command)), file=sys.stderr, flush=True)
    subprocess.run(command, check=True, **more)


def install(cache: Path) -> Path:
    """The Python of the virtual environment."""
    python = cache / "venv/bin/python"
    if not python.exists():
        run([sys.executable, "-m", "venv", cache / "venv"])
    wanted = HERE / "requirements.txt"
    installed = cache / "installed.txt"
    if not installed.exists() or installed.read_text() != wanted.read_text():
        building = os.environ | {"CMAKE_ARGS": "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF"}
        run([python, "-m", "pip", "install", "-q", "-r", wanted], env=building)
        installed.write_text(wanted.read_text())
    return python


def make_models(python: Path, cache: Path, names: list[str]) -> None:
    for name in names:
        if not (cache / name).exists():
            script, *parts = MODELS[name].split()
            run([python, HERE / script, *(part.format(cache=cache) for part in parts)])


def start(python: Path, cache: Path, threads: str, peers: dict) -> list[subprocess.Popen]:
    """Servers that have loaded their models, one after another."""
    servers = []
    for name, (kind, model, *settings) in peers.items():
        command = [python, HERE / "serve.py", cache / f"{name}.socket", threads, kind, cache / model, *settings]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        servers.append(server)
        if server.stdout.readline() != "ready\n":
            stop(servers)
            raise SystemExit(f"{name} did not start")
        print(f"{name} is ready", file=sys.stderr, flush=True)
    return servers


def stop(servers: list[subprocess.Popen]) -> None:
    for server in servers:
        server.terminate()
        server.wait()


def rounds(options: argparse.Namespace, python: Path, group: str, peers: dict) -> list[dict]:
    """For each answer: a name, figures by size, and ceilings if it is one of ours."""
    command = [*shlex.split(options.hold), python, HERE / "round.py", group, options.program, options.threads]
    command += [options.cache, *options.bundle, "--", *peers]
    told = []
    for number in range(options.rounds):
        began = time.monotonic()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        print(f"{group} {number + 1}: {time.monotonic() - began:.0f} s, {done.stdout.strip()}", file=sys.stderr, flush=True)
        told += [json.loads(line) for line in done.stdout.splitlines() if line.endswith("}")]
    return told


def cell(group: str, values: list[float], own: float | None) -> str:
    """Median, range, and how many times faster ours is."""
    median = statistics.median(values)
    text = f"{median:.0f}" if median >= 100 else f"{median:.1f}"
    if len(values) > 1:
        text += f" [{min(values):.0f}..{max(values):.0f}]" if median >= 100 else f" [{min(values):.1f}..{max(values):.1f}]"
    if own is not None:
        text += f", {median / own if group == 'encode' else own / median:.2f}"
    return text


def table(options: argparse.Namespace, results: dict[str, list[dict]]) -> str:
    """Markdown; behind a peer's figure, how many times faster the first of ours is, from medians."""
    lines = []
    first = options.bundle[0].split("=")[0]
    for peers in (ENCODERS, DECODERS):
        groups = [group for group in results if GROUPS[group] is peers and results[group]]
        if not groups:
            continue
        names = [pair.split("=")[0] for pair in options.bundle] + list(peers)
        lines += ["| what | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
        for (group, size), what in WHAT.items():
            if group not in groups:
                continue
            by_name = {
                name: [told["figures"][size] for told in results[group] if told["name"] == name and size in told["figures"]]
                for name in names
            }
            if not by_name[first]:
                continue
            own = statistics.median(by_name[first])
            cells = [cell(group, values, None if name == first else own) if values else "" for name, values in by_name.items()]
            lines.append(f"| {what}, {UNITS[group]} | " + " | ".join(cells) + " |")
        lines.append("")
        ceilings = [ceiling for group in groups for told in results[group] if (ceiling := told.get("ceilings"))]
        for key, unit in {"int8_gop_s": "INT8 GOP/s", "bf16_gop_s": "bf16 GOP/s", "read_gb_s": "GB/s read"}.items():
            values = [ceiling[key] for ceiling in ceilings if ceiling.get(key)]
            if values:
                lines.append(f"Ceiling, {unit}: {cell('', values, None)}.")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    options = arguments()
    options.cache.mkdir(parents=True, exist_ok=True)
    options.cache = options.cache.resolve()
    options.program = str(Path(options.program).resolve())
    python = install(options.cache)
    results = {}
    for kind, everybody in {"encoder": ENCODERS, "decoder": DECODERS}.items():
        groups = [group for group in options.only.split(",") if GROUPS[group] is everybody]
        if not groups:
            continue
        peers = {name: peer for name, peer in everybody.items() if name not in options.skip}
        make_models(python, options.cache, [name for name in MODELS if name.startswith(kind)])
        servers = start(python, options.cache, options.threads, peers)
        try:
            for group in groups:
                results[group] = rounds(options, python, group, peers)
        finally:
            stop(servers)
    (options.cache / "results.json").write_text(json.dumps(results, indent=1))
    print(table(options, results))
    if options.clean:
        for name in MODELS:
            model = options.cache / name
            shutil.rmtree(model.parent) if model.parent != options.cache else model.unlink(missing_ok=True)
            model.with_suffix(".bin").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
