"""The decoder as GGUF in Q4_0, as llama.cpp's own quantizer mixes it: everything Q4_0 except the head, which is Q6_K.

Blocks of bytes are drawn as they lie in the file: 18 bytes for 32 weights (scale in f16, 16 bytes of nibbles), or 210 bytes for
256 (low nibbles, high pairs, 16 INT8 scales, scale in f16).

Usage: gguf_decoder.py FILE [LAYERS]
"""

import sys
from pathlib import Path

import gguf
import numpy as np

import shapes as s

Q4_0, Q6_K = gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q6_K
# Weights to a block, bytes of a block, and where the block's f16 scale lies in them.
BLOCKS = {Q4_0: (32, 18, 0), Q6_K: (256, 210, 208)}
# So that weights deviate by about 0.02: nibbles by 4.6, and 6-bit numbers by 18 times INT8 scales by 73.
SCALES = {Q4_0: 0.0043, Q6_K: 0.000015}


def blocks(kind: gguf.GGMLQuantizationType, rows: int, columns: int) -> np.ndarray:
    """Bytes [rows, bytes of a row]."""
    count, size, scale = BLOCKS[kind]
    pool = np.random.default_rng(2).integers(0, 256, (1 << 15, size), dtype=np.uint8)
    pool[:, scale : scale + 2] = np.frombuffer(np.float16(SCALES[kind]).tobytes(), np.uint8)
    return np.resize(pool, (rows * columns // count, size)).reshape(rows, -1)


def tokens() -> list[str]:
    """256 bytes as GPT-2 writes them, and names for the rest of the vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(256 + at) for at in range(len(others))]
    return letters + [f"token{at}" for at in range(len(letters), s.VOCABULARY)]


def header(writer: gguf.GGUFWriter, layers: int) -> None:
    writer.add_name("random")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    writer.add_context_length(s.CONTEXT)
    writer.add_embedding_length(s.HIDDEN)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(s.FFN)
    writer.add_head_count(s.HEADS)
    writer.add_head_count_kv(s.KV_HEADS)
    writer.add_rope_dimension_count(s.HEAD_WIDTH)
    writer.add_layer_norm_rms_eps(s.NORM_EPSILON)
    writer.add_rope_freq_base(s.ROPE_BASE)
    writer.add_vocab_size(s.VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens())
    writer.add_token_types([gguf.TokenType.NORMAL] * s.VOCABULARY)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")


def tensors(layers: int):
    """Names, shapes, kinds; vectors are f32."""
    yield "token_embd.weight", (s.VOCABULARY, s.HIDDEN), Q4_0
    for layer in range(layers):
        keys = s.KV_HEADS * s.HEAD_WIDTH
        for name, shape in {
            "attn_q": (s.HIDDEN, s.HIDDEN),
            "attn_k": (keys, s.HIDDEN),
            "attn_v": (keys, s.HIDDEN),
            "attn_output": (s.HIDDEN, s.HIDDEN),
            "ffn_gate": (s.FFN, s.HIDDEN),
            "ffn_up": (s.FFN, s.HIDDEN),
            "ffn_down": (s.HIDDEN, s.FFN),
            "attn_norm": (s.HIDDEN,),
            "ffn_norm": (s.HIDDEN,),
        }.items():
            yield f"blk.{layer}.{name}.weight", shape, Q4_0
    yield "output_norm.weight", (s.HIDDEN,), Q4_0
    yield "output.weight", (s.VOCABULARY, s.HIDDEN), Q6_K


def main(file: Path, layers: int) -> None:
    writer = gguf.GGUFWriter(file, "llama")
    header(writer, layers)
    for name, shape, kind in tensors(layers):
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, np.float32))
        else:
            writer.add_tensor(name, blocks(kind, *shape), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else s.LAYERS)
