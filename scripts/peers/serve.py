"""One peer in a process of its own: loads a model, then answers requests on a Unix socket, one JSON line each, so that loading
does not fall into what is timed. Prints `ready` when it may be asked.

Usage: serve.py SOCKET THREADS PEER FILE [SETTING...]
"""

import json
import socket
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import shapes as s

RUNS = 3
DECODED = 32
DEPTH = 2048


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def pixels(tiles: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((tiles, *s.TILE), dtype=np.float32)


def ids(count: int) -> np.ndarray:
    return np.random.default_rng(6).integers(0, s.VOCABULARY, count)


class Encoder:
    """Milliseconds for a tile, median of a few runs after one that does not count."""

    def encode(self, tiles: int) -> float:
        picture = pixels(tiles)
        self.infer(picture)
        return 1e3 * statistics.median(seconds(lambda: self.infer(picture)) for _ in range(RUNS)) / tiles


class OpenVinoEncoder(Encoder):
    def __init__(self, file: str, threads: int, precision: str = ""):
        import openvino as ov

        settings = {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": True, "PERFORMANCE_HINT": "LATENCY"}
        if precision:
            settings["INFERENCE_PRECISION_HINT"] = precision
        self.request = ov.Core().compile_model(file, "CPU", settings).create_infer_request()

    def infer(self, picture: np.ndarray) -> None:
        self.request.infer({0: picture})


class OnnxEncoder(Encoder):
    def __init__(self, file: str, threads: int):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def infer(self, picture: np.ndarray) -> None:
        self.session.run(None, {"pixels": picture})


class OpenVinoDecoder:
    """The pipeline's own clocks: time to the first token, and time for each token after it."""

    def __init__(self, folder: str, threads: int, cache: str):
        import openvino as ov
        import openvino_genai as genai

        self.ov, self.genai = ov, genai
        # It remembers the beginnings of prompts, so no two may be alike.
        self.drawn = np.random.default_rng(7)
        settings = {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": True, "PERFORMANCE_HINT": "LATENCY"}
        self.pipeline = genai.LLMPipeline(folder, "CPU", KV_CACHE_PRECISION=cache, **settings)
        self.clocks(32, 4)

    def clocks(self, prompt: int, answer: int):
        config = self.genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = answer, True, False
        config.eos_token_id, config.stop_token_ids = 2, {2}
        rows = self.drawn.integers(0, s.VOCABULARY, (1, prompt))
        inputs = self.genai.TokenizedInputs(self.ov.Tensor(rows), self.ov.Tensor(np.ones_like(rows)))
        return self.pipeline.generate(inputs, config).perf_metrics

    def prefill(self, rows: int) -> float:
        return 1e3 * rows / self.clocks(rows, 1).get_ttft().mean

    def decode(self, depth: int) -> float:
        # A prompt of at least one token; the first answer token comes out of the prompt.
        return 1e3 / self.clocks(max(depth, 1), DECODED + 1).get_tpot().mean


class LlamaContext:
    """Keys and values of one conversation with a llama.cpp model."""

    def __init__(self, c, model, threads: int, cache: str):
        self.c = c
        settings = c.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_ubatch = DEPTH + 256, DEPTH, 512
        settings.n_threads = settings.n_threads_batch = threads
        settings.type_k = settings.type_v = {"f16": c.GGML_TYPE_F16, "q8_0": c.GGML_TYPE_Q8_0}[cache]
        settings.flash_attn_type = c.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self.context = c.llama_init_from_model(model, settings)
        if not self.context:
            raise SystemExit(f"llama.cpp makes no context with keys and values in {cache}")

    def forward(self, rows: np.ndarray) -> None:
        array = (self.c.llama_token * len(rows))(*map(int, rows))
        if self.c.llama_decode(self.context, self.c.llama_batch_get_one(array, len(rows))) != 0:
            raise SystemExit("llama_decode failed")
        self.c.llama_synchronize(self.context)

    def cut(self, depth: int) -> None:
        self.c.llama_memory_seq_rm(self.c.llama_get_memory(self.context), 0, depth, -1)


class LlamaDecoder:
    """llama.cpp through its C interface; flash attention, matrices repacked at load as it does by itself."""

    def __init__(self, file: str, threads: int, cache: str):
        import llama_cpp as c

        self.silence = c.llama_log_callback(lambda *_: None)
        c.llama_log_set(self.silence, None)
        c.llama_backend_init()
        model = c.llama_model_load_from_file(file.encode(), c.llama_model_default_params())
        if not model:
            raise SystemExit(f"llama.cpp cannot load {file}")
        # One of them stays filled, so that depth is not filled while the machine is held.
        self.contexts = {depth: LlamaContext(c, model, threads, cache) for depth in (0, DEPTH)}
        self.contexts[DEPTH].forward(ids(DEPTH))
        self.contexts[0].forward(ids(32))

    def prefill(self, rows: int) -> float:
        context, prompt = self.contexts[0], ids(rows)
        context.cut(0)
        return rows / seconds(lambda: context.forward(prompt))

    def decode(self, depth: int) -> float:
        context, rows = self.contexts[depth], ids(DECODED)
        context.cut(depth)
        took = seconds(lambda: [context.forward(rows[at : at + 1]) for at in range(DECODED)])
        context.cut(depth)
        return DECODED / took


PEERS = {
    "openvino-encoder": OpenVinoEncoder,
    "onnxruntime-encoder": OnnxEncoder,
    "openvino-decoder": OpenVinoDecoder,
    "llama.cpp-decoder": LlamaDecoder,
}


def answer(peer, line: str) -> dict:
    """One request: {"encode": tiles}, {"prefill": rows} or {"decode": depth}."""
    ((what, size),) = json.loads(line).items()
    return {"value": getattr(peer, what)(size)}


def serve(peer, connection: socket.socket) -> None:
    with connection, connection.makefile("rw") as lines:
        for line in lines:
            print(json.dumps(answer(peer, line)), file=lines, flush=True)


def main() -> None:
    address, threads, name, file, *settings = sys.argv[1:]
    peer = PEERS[name](file, int(threads), *settings)
    Path(address).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            try:
                serve(peer, connection)
            except OSError:
                # Who asked was stopped, as rounds that take too long are; the next one asks again.
                pass



if __name__ == "__main__":
    main()
