"""The encoder for OpenVINO: INT8 weights and activations (nncf.quantize, its transformer preset), or INT8 weights alone.

Usage: openvino_encoder.py FILE.xml w8a8|w8
"""

import sys
from pathlib import Path

import nncf
import numpy as np
import openvino as ov
from openvino import opset15 as op

import shapes as s


def constant(values: np.ndarray):
    return op.constant(values.astype(np.float32))


def linear(x, inputs: int, outputs: int, seed: int):
    product = op.matmul(x, constant(s.weights(outputs, inputs, seed=seed)), False, True)
    return op.add(product, constant(s.weights(1, 1, outputs, seed=seed)))


def norm(x):
    centred = op.mvn(x, op.constant(np.array([2], np.int64)), True, 1e-6, "INSIDE_SQRT")
    return op.add(op.multiply(centred, constant(np.ones((1, 1, s.WIDTH)))), constant(np.zeros((1, 1, s.WIDTH))))


def shaped(x, *shape: int):
    """0 keeps a dimension, -1 takes what is left."""
    return op.reshape(x, op.constant(np.array(shape, np.int64)), True)


def permuted(x, *order: int):
    return op.transpose(x, op.constant(np.array(order, np.int64)))


def attention(x, seed: int):
    head = s.WIDTH // s.ENCODER_HEADS
    q, k, v = (
        permuted(shaped(linear(x, s.WIDTH, s.WIDTH, seed + which), 0, 0, s.ENCODER_HEADS, head), 0, 2, 1, 3)
        for which in range(3)
    )
    mixed = op.scaled_dot_product_attention(q, k, v)
    return linear(shaped(permuted(mixed, 0, 2, 1, 3), 0, 0, s.WIDTH), s.WIDTH, s.WIDTH, seed + 3)


def encoder() -> ov.Model:
    """pixels [tiles, 3, 384, 384] -> features [tiles, 196, 2560]."""
    pixels = op.parameter([-1, *s.TILE], np.float32, name="pixels")
    strides = [s.PATCH, s.PATCH]
    patches = op.convolution(pixels, constant(s.weights(s.WIDTH, 3, s.PATCH, s.PATCH)), strides, [0, 0], [0, 0], [1, 1])
    x = permuted(shaped(patches, 0, s.WIDTH, s.GRID * s.GRID), 0, 2, 1)
    x = op.add(x, constant(s.weights(1, s.GRID * s.GRID, s.WIDTH)))
    for layer in range(s.ENCODER_LAYERS):
        x = op.add(x, attention(norm(x), 8 * layer))
        inner = op.gelu(linear(norm(x), s.WIDTH, s.ENCODER_FFN, 8 * layer + 4), "tanh")
        x = op.add(x, linear(inner, s.ENCODER_FFN, s.WIDTH, 8 * layer + 5))
    x = merged(norm(x))
    x = op.gelu(linear(x, s.WIDTH * s.MERGE**2, s.HIDDEN, 1), "erf")
    return ov.Model([linear(x, s.HIDDEN, s.HIDDEN, 2)], [pixels], "encoder")


def merged(x):
    """Four neighbours become one row; a grid of odd side is filled up with zeros."""
    filling = s.MERGED_GRID * s.MERGE - s.GRID
    begin, end = np.array([0, 0, 0, 0], np.int64), np.array([0, filling, filling, 0], np.int64)
    grid = op.pad(shaped(x, 0, s.GRID, s.GRID, s.WIDTH), op.constant(begin), op.constant(end), "constant")
    blocks = shaped(grid, 0, s.MERGED_GRID, s.MERGE, s.MERGED_GRID, s.MERGE * s.WIDTH)
    return shaped(permuted(blocks, 0, 1, 3, 2, 4), 0, s.MERGED_GRID**2, s.MERGE**2 * s.WIDTH)


def quantized() -> ov.Model:
    # One random picture to calibrate with: ranges are of no concern for speed.
    picture = np.random.default_rng(0).standard_normal((1, *s.TILE), dtype=np.float32)
    return nncf.quantize(
        encoder(),
        nncf.Dataset([picture]),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=1,
        fast_bias_correction=True,
    )


def main(file: Path, which: str) -> None:
    if which == "w8a8":
        model = quantized()
    else:
        model = nncf.compress_weights(encoder(), mode=nncf.CompressWeightsMode.INT8_SYM)
    ov.save_model(model, file, compress_to_fp16=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
