#!/usr/bin/env python3
"""Random blocks of each GGUF type that is read, and the numbers that the PyPI package `gguf` makes of them.

    pip install gguf numpy safetensors
    python scripts/make_gguf_blocks.py crates/model/src/gguf/tests/blocks.safetensors
"""
import sys

import gguf
import numpy as np
from safetensors.numpy import save_file

# Places of the f16 numbers of a block; all other bytes may be anything.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0],
}
BLOCKS = 3

rng = np.random.default_rng(5)
tensors = {}
for name, halves in HALVES.items():
    kind = gguf.GGMLQuantizationType[name]
    numbers, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
    for place in halves:
        # One ordinary, one negative, one subnormal.
        values = np.array([rng.uniform(0.001, 4), -rng.uniform(0.001, 4), 3e-6], dtype=np.float16)
        blocks[:, place : place + 2] = values.view(np.uint8).reshape(BLOCKS, 2)
    expected = gguf.quants.dequantize(blocks, kind).reshape(BLOCKS, numbers)
    tensors[f"{name}.blocks"] = blocks
    tensors[f"{name}.numbers"] = expected.astype(np.float32)
save_file(tensors, sys.argv[1])
