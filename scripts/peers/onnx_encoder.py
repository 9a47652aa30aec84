"""The encoder for onnxruntime, with its own fused operators: INT8 weights, activations quantized as they come
(DynamicQuantizeMatMul), attention as one operator.

Usage: onnx_encoder.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import shapes as s

FUSED = "com.microsoft"


class Graph:
    """Nodes and constants as they come."""

    def __init__(self):
        self.nodes, self.constants = [], {}

    def constant(self, values: np.ndarray) -> str:
        name = f"constant{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def add(self, kind: str, *inputs: str, domain: str = "", **attributes) -> str:
        name = f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], domain=domain, **attributes))
        return name

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        weight = self.constant(np.roll(s.int8(inputs, outputs), len(self.nodes)))
        scales = self.constant(np.full(outputs, 0.0004, np.float32))
        bias = self.constant(s.weights(outputs))
        return self.add("DynamicQuantizeMatMul", x, weight, scales, "", bias, domain=FUSED)

    def norm(self, x: str) -> str:
        ones, zeros = np.ones(s.WIDTH, np.float32), np.zeros(s.WIDTH, np.float32)
        return self.add("LayerNormalization", x, self.constant(ones), self.constant(zeros), epsilon=1e-6)

    def shaped(self, x: str, *shape: int) -> str:
        return self.add("Reshape", x, self.constant(np.array(shape, np.int64)))

    def attention(self, x: str) -> str:
        q, k, v = (self.linear(x, s.WIDTH, s.WIDTH) for _ in range(3))
        mixed = self.add("MultiHeadAttention", q, k, v, domain=FUSED, num_heads=s.ENCODER_HEADS)
        return self.linear(mixed, s.WIDTH, s.WIDTH)

    def merged(self, x: str) -> str:
        filling = s.MERGED_GRID * s.MERGE - s.GRID
        around = self.constant(np.array([0, 0, 0, 0, 0, filling, filling, 0], np.int64))
        grid = self.add("Pad", self.shaped(x, 0, s.GRID, s.GRID, s.WIDTH), around)
        blocks = self.shaped(grid, 0, s.MERGED_GRID, s.MERGE, s.MERGED_GRID, s.MERGE * s.WIDTH)
        blocks = self.add("Transpose", blocks, perm=[0, 1, 3, 2, 4])
        return self.shaped(blocks, 0, s.MERGED_GRID**2, s.MERGE**2 * s.WIDTH)


def encoder() -> onnx.ModelProto:
    """pixels [tiles, 3, 384, 384] -> features [tiles, 196, 2560]."""
    g = Graph()
    kernel = g.constant(s.weights(s.WIDTH, 3, s.PATCH, s.PATCH))
    patches = g.add("Conv", "pixels", kernel, strides=[s.PATCH, s.PATCH])
    x = g.add("Transpose", g.shaped(patches, 0, s.WIDTH, s.GRID * s.GRID), perm=[0, 2, 1])
    x = g.add("Add", x, g.constant(s.weights(1, s.GRID * s.GRID, s.WIDTH)))
    for _ in range(s.ENCODER_LAYERS):
        x = g.add("Add", x, g.attention(g.norm(x)))
        inner = g.add("Gelu", g.linear(g.norm(x), s.WIDTH, s.ENCODER_FFN), approximate="tanh")
        x = g.add("Add", x, g.linear(inner, s.ENCODER_FFN, s.WIDTH))
    x = g.merged(g.norm(x))
    x = g.add("Gelu", g.linear(x, s.WIDTH * s.MERGE**2, s.HIDDEN))
    x = g.linear(x, s.HIDDEN, s.HIDDEN)
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["tiles", *s.TILE])
    features = helper.make_tensor_value_info(x, TensorProto.FLOAT, ["tiles", s.MERGED_GRID**2, s.HIDDEN])
    graph = helper.make_graph(g.nodes, "encoder", [pixels], [features], list(g.constants.values()))
    sets = [helper.make_opsetid("", 20), helper.make_opsetid(FUSED, 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=10)


if __name__ == "__main__":
    onnx.save(encoder(), Path(sys.argv[1]) / "encoder-int8.onnx")
