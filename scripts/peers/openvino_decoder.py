"""The decoder for OpenVINO GenAI: its own reader makes the graph of the GGUF file, and this puts the weights into it that
OpenVINO is fastest with: INT4 without zero points in groups of 128, INT8 for embedding and head (nncf's INT4_SYM).

Usage: openvino_decoder.py FILE.gguf FOLDER
"""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import openvino as ov
import openvino_genai
from openvino import opset15 as op

import shapes as s

GROUP = 128


def read(file: Path) -> tuple[ov.Model, Path]:
    """The graph that the pipeline writes beside the file when it reads it, and the folder with it."""
    folder = Path(tempfile.mkdtemp(dir=file.parent))
    link = folder / file.name
    link.symlink_to(file.resolve())
    try:
        openvino_genai.LLMPipeline(link, "CPU", enable_save_ov_model=True)
    except RuntimeError:
        # By then the graph is written. 2026.4 fails on the tokenizer that it makes of the file, which nobody needs here.
        pass
    return ov.Core().read_model(folder / "openvino_model.xml"), folder


# OpenVINO refers to the memory of packed numbers and does not hold it.
held = []


def int4(rows: int, columns: int, seed: int):
    """[rows, columns] of INT4 with a scale for each group. Equal matrices would be kept once, so each has its own seed."""
    drawn = np.random.default_rng(seed).integers(0, 256, 1 << 20, dtype=np.uint8)
    packed = np.resize(drawn, rows * columns // 2)
    held.append(packed)
    groups = columns // GROUP
    values = op.constant(ov.Tensor(packed, ov.Shape([rows, groups, GROUP]), ov.Type.i4))
    scales = op.constant(np.full((rows, groups, 1), 0.0043, np.float16))
    product = op.multiply(op.convert(values, "f16"), scales)
    return op.convert(op.reshape(product, op.constant(np.array([rows, columns], np.int64)), False), "f32")


def int8(rows: int, columns: int, seed: int):
    """[rows, columns] of INT8 with a scale for each row."""
    values = np.roll(s.int8(rows, columns), seed)
    scales = op.constant(np.full((rows, 1), 0.00027, np.float16))
    return op.convert(op.multiply(op.convert(op.constant(values), "f16"), scales), "f32")


def replace_weights(model: ov.Model) -> None:
    for seed, node in enumerate(model.get_ops()):
        kind = node.get_type_name()
        at = {"MatMul": 1, "Gather": 0}.get(kind)
        if at is None or not node.get_input_partial_shape(at).is_static:
            continue
        shape = list(node.get_input_shape(at))
        if len(shape) != 2 or min(shape) < 2:
            continue
        make = int8 if shape[0] == s.VOCABULARY else int4
        node.input(at).replace_source_output(make(*shape, seed).output(0))


def main(file: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    model, source = read(file)
    replace_weights(model)
    model.validate_nodes_and_infer_types()
    ov.save_model(model, folder / "openvino_model.xml", compress_to_fp16=False)
    shutil.rmtree(source)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
