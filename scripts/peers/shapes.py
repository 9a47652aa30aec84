"""The shape that everybody is measured on, that of `bluelm bench --shape bluelm-v-3b`, and random numbers for it."""

import numpy as np

# SigLIP so400m/14 at 384 pixels, its features merged 2 x 2 and projected by two linear layers.
WIDTH, ENCODER_LAYERS, ENCODER_HEADS, ENCODER_FFN = 1152, 27, 16, 4304
SIDE, PATCH = 384, 14
GRID = SIDE // PATCH
TILE = (3, SIDE, SIDE)
MERGE = 2
MERGED_GRID = -(-GRID // MERGE)

# The decoder, 2.74 billion weights; embedding and head are two matrices.
HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_WIDTH, FFN, VOCABULARY = 2560, 32, 20, 5, 128, 6912, 100352
CONTEXT = 4096
ROPE_BASE = 10000.0
NORM_EPSILON = 1e-5

# Weights that are drawn once and then repeated: nothing that is measured depends on more.
_POOL = np.random.default_rng(0).standard_normal(1 << 22, dtype=np.float32) * np.float32(0.02)


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    """f32 of standard deviation 0.02, other numbers for each seed: some programs keep equal matrices once."""
    return np.resize(np.roll(_POOL, 7919 * seed), int(np.prod(shape))).reshape(shape)


def int8(*shape: int) -> np.ndarray:
    """INT8 weights over their whole range."""
    drawn = np.random.default_rng(1).integers(-127, 128, 1 << 22, dtype=np.int8)
    return np.resize(drawn, int(np.prod(shape))).reshape(shape)
