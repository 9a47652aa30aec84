#!/usr/bin/env python3
"""A checkpoint folder of a text model as GGUF, by the PyPI package `gguf` alone: what the reader is compared with.

    pip install gguf numpy safetensors torch
    python scripts/make_gguf.py FOLDER OUT.gguf [--type f32|f16|bf16|q8_0|q4_0|...] [--folder DEQUANTIZED]

--folder writes a copy of the folder whose weights are those of the GGUF file as f32, for references.
llama, minicpm and internlm2 have the rows of queries and keys of a head pair by pair in GGUF, all others half by half.
"""
import argparse, glob, json, math, os, shutil

import gguf
import numpy as np
import torch
from safetensors.torch import load_file, save_file

PAIRS = {"llama", "minicpm", "internlm2"}
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    # InternLM2
    "model.tok_embeddings": "token_embd", "output": "output", "attention_norm": "attn_norm", "ffn_norm": "ffn_norm",
    "attention.wo": "attn_output", "feed_forward.w1": "ffn_gate", "feed_forward.w3": "ffn_up", "feed_forward.w2": "ffn_down",
}


def renamed(name):
    stem, end = name.rsplit(".", 1)
    if stem.startswith("model.layers."):
        layer, stem = stem.removeprefix("model.layers.").split(".", 1)
        return f"blk.{layer}.{NAMES[stem]}.{end}"
    return f"{NAMES[stem]}.{end}"


def pairs(x, heads):
    """Half by half to pair by pair."""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def halves(x, heads):
    return x.reshape(heads, x.shape[0] // heads // 2, 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def weights(folder, config):
    state = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        state |= load_file(path)
    heads, keys = config["num_attention_heads"], config.get("num_key_value_heads", config["num_attention_heads"])
    for name, x in list(state.items()):
        if "attention.wqkv." in name:
            width = x.shape[0] // (heads + 2 * keys)
            x = x.reshape(keys, heads // keys + 2, width, -1)
            base = name.replace("attention.wqkv", "self_attn.%s_proj")
            state[base % "q"] = x[:, :-2].reshape(heads * width, -1)
            state[base % "k"] = x[:, -2].reshape(keys * width, -1)
            state[base % "v"] = x[:, -1].reshape(keys * width, -1)
            del state[name]
    return {name: x.float().numpy() for name, x in state.items()}


def tokenizer(w, folder, config, vocabulary):
    """tokenizer.json, or a sentencepiece model with added tokens."""
    settings = json.load(open(os.path.join(folder, "tokenizer_config.json")))
    T = gguf.TokenType
    path = os.path.join(folder, "tokenizer.json")
    texts, scores, kinds = [], [], []
    if os.path.exists(path):
        data = json.load(open(path))
        model = data["model"]
        ids = {i: t for t, i in model["vocab"].items()}
        added = {a["id"]: a for a in data["added_tokens"]}
        bytes_ = model.get("byte_fallback")
        ranks = {}
        for rank, merge in enumerate(model["merges"]):
            left, right = merge if isinstance(merge, list) else merge.split(" ")
            ranks.setdefault(left + right, rank)
        for i in range(vocabulary):
            if i in added:
                texts.append(added[i]["content"])
                kind = T.CONTROL if added[i]["special"] else T.USER_DEFINED
                kinds.append(T.UNKNOWN if added[i]["content"] == model.get("unk_token") else kind)
            elif i in ids:
                texts.append(ids[i])
                kinds.append(T.BYTE if bytes_ and ids[i].startswith("<0x") else T.NORMAL)
            else:
                texts.append(f"[PAD{i}]")
                kinds.append(T.UNUSED)
            scores.append(float(-ranks.get(texts[-1], 1e6)) if kinds[-1] == T.NORMAL else 0.0)
        if bytes_:
            w.add_tokenizer_model("llama")
            w.add_tokenizer_pre("default")
            w.add_token_scores(scores)
        else:
            w.add_tokenizer_model("gpt2")
            w.add_tokenizer_pre("qwen2")
            w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
    else:
        import sentencepiece
        sp = sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))
        added = {int(i): a for i, a in settings.get("added_tokens_decoder", {}).items()}
        for i in range(vocabulary):
            known = i < sp.vocab_size()
            kind = T.NORMAL if known else T.UNUSED
            if known:
                kind = T.UNKNOWN if sp.is_unknown(i) else T.CONTROL if sp.is_control(i) else T.BYTE if sp.is_byte(i) else kind
            elif i in added:
                kind = T.CONTROL if added[i]["special"] else T.USER_DEFINED
            texts.append(sp.id_to_piece(i) if known else added[i]["content"] if i in added else f"[PAD{i}]")
            scores.append(sp.get_score(i) if known else 0.0)
            kinds.append(kind)
        w.add_tokenizer_model("llama")
        w.add_tokenizer_pre("default")
        w.add_token_scores(scores)
    w.add_token_list(texts)
    w.add_token_types(kinds)
    name = lambda key: settings[key]["content"] if isinstance(settings.get(key), dict) else settings.get(key)
    for key, add in [("bos_token", w.add_bos_token_id), ("eos_token", w.add_eos_token_id)]:
        if name(key) in texts:
            add(texts.index(name(key)))
    if settings.get("add_bos_token") is not None:
        w.add_add_bos_token(bool(settings["add_bos_token"]))
    template = os.path.join(folder, "chat_template.jinja")
    template = open(template).read() if os.path.exists(template) else settings.get("chat_template")
    if template:
        w.add_chat_template(template)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("source"), p.add_argument("out")
    p.add_argument("--type", default="f32"), p.add_argument("--folder")
    a = p.parse_args()
    c = json.load(open(os.path.join(a.source, "config.json")))
    arch = c["model_type"]
    rope = c.get("rope_parameters") or {}
    heads = c["num_attention_heads"]
    keys = c.get("num_key_value_heads", heads)
    width = c.get("head_dim") or c["hidden_size"] // heads
    w = gguf.GGUFWriter(a.out, arch)
    w.add_context_length(c["max_position_embeddings"]), w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"]), w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(heads), w.add_head_count_kv(keys)
    w.add_key_length(width), w.add_value_length(width), w.add_rope_dimension_count(width)
    w.add_layer_norm_rms_eps(c["rms_norm_eps"]), w.add_rope_freq_base(rope.get("rope_theta", c.get("rope_theta", 1e4)))
    w.add_vocab_size(c["vocab_size"])
    if arch == "minicpm":
        w.add_embedding_scale(c["scale_emb"]), w.add_residual_scale(c["scale_depth"] / math.sqrt(c["num_hidden_layers"]))
        w.add_logit_scale(c["hidden_size"] / c["dim_model_base"])
    tokenizer(w, a.source, c, c["vocab_size"])
    kind = gguf.GGMLQuantizationType[a.type.upper()]
    state, back = weights(a.source, c), {}
    if c.get("tie_word_embeddings"):
        state.pop("lm_head.weight", None)
    for name, x in state.items():
        of = heads if ".q_proj." in name else keys if ".k_proj." in name else None
        x = pairs(x, of) if of and arch in PAIRS else x
        own = gguf.GGMLQuantizationType.F32 if x.ndim == 1 else kind
        if own == gguf.GGMLQuantizationType.F32:
            w.add_tensor(renamed(name), x)
        else:
            data = gguf.quants.quantize(x, own)
            # F16 is written as such by its dtype.
            w.add_tensor(renamed(name), data, raw_dtype=own)
            x = gguf.quants.dequantize(data, own)
        back[name] = torch.from_numpy((halves(x, of) if of and arch in PAIRS else x).copy())
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
    if a.folder:
        shutil.copytree(a.source, a.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors*"))
        save_file(back, os.path.join(a.folder, "model.safetensors"), metadata={"format": "pt"})


main()
