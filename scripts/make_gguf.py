#!/usr/bin/env python3
"""A checkpoint folder of a text model as GGUF, by the PyPI package `gguf` alone: what the reader is compared with.

    pip install gguf numpy safetensors torch
    python scripts/make_gguf.py FOLDER OUT.gguf [--type f32|f16|bf16|q8_0|q4_0|...] [--folder DEQUANTIZED] [--mmproj OUT]

--mmproj writes the image encoder of llava, internvl_chat, qwen2_vl and qwen2_5_vl as f32.
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


VISION = [
    # llava
    ("vision_tower.vision_model.", "v."), ("pre_layrnorm", "pre_ln"), ("post_layernorm", "post_ln"),
    ("multi_modal_projector.linear_1", "mm.0"), ("multi_modal_projector.linear_2", "mm.2"),
    # internvl
    ("vision_model.", "v."), ("mlp1.", "mm.model.mlp."), ("attn.proj", "attn_out"),
    # qwen
    ("visual.merger.ln_q", "v.post_ln"), ("visual.merger.mlp", "mm"), ("visual.patch_embed.proj", "v.patch_embd"),
    ("visual.blocks", "v.blk"), ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down"),
    # all
    ("embeddings.patch_embedding", "patch_embd"), ("embeddings.class_embedding", "class_embd"),
    ("embeddings.position_embedding", "position_embd"), ("encoder.layers", "blk"), ("layer_norm", "ln"), (".norm", ".ln"),
    ("self_attn.out_proj", "attn_out"), ("self_attn.", "attn_"), ("_proj.", "."), ("mlp.fc1", "ffn_up"), ("mlp.fc2", "ffn_down"),
]


def mmproj(path, c, state, folder):
    """The image encoder. Of llava only the layers that are computed; of qwen the two halves of the first convolution."""
    kind = {"llava": "mlp", "internvl_chat": "internvl", "qwen2_vl": "qwen2vl_merger", "qwen2_5_vl": "qwen2.5vl_merger"}[c["model_type"]]
    v = c["vision_config"]
    layers = v.get("num_hidden_layers") or v["depth"]
    layers += c["vision_feature_layer"] + 1 if kind == "mlp" else 0
    hidden = v.get("embed_dim") or v["hidden_size"]
    w = gguf.GGUFWriter(path, "clip")
    w.add_bool("clip.has_vision_encoder", True), w.add_string("clip.projector_type", kind)
    w.add_bool("clip.use_gelu", kind == "internvl"), w.add_bool("clip.use_silu", kind == "qwen2.5vl_merger")
    for key, value in dict(image_size=v.get("image_size", 56), patch_size=v["patch_size"], embedding_length=hidden, block_count=layers,
                           feed_forward_length=v.get("intermediate_size") or hidden * v.get("mlp_ratio", 0)).items():
        w.add_uint32(f"clip.vision.{key}", value)
    w.add_uint32("clip.vision.attention.head_count", v.get("num_attention_heads") or v["num_heads"])
    w.add_float32("clip.vision.attention.layer_norm_epsilon", v.get("layer_norm_eps", 1e-6))
    if "fullatt_block_indexes" in v:
        w.add_uint32("clip.vision.n_wa_pattern", v["fullatt_block_indexes"][0] + 1), w.add_uint32("clip.vision.window_size", v["window_size"])
    pre = json.load(open(os.path.join(folder, "preprocessor_config.json")))
    w.add_array("clip.vision.image_mean", pre["image_mean"]), w.add_array("clip.vision.image_std", pre["image_std"])
    if kind.startswith("qwen"):
        w.add_uint32("clip.vision.image_min_pixels", pre["size"]["shortest_edge"])
        w.add_uint32("clip.vision.image_max_pixels", pre["size"]["longest_edge"])
    for name, x in state.items():
        for old, new in VISION:
            name = name.replace(old, new)
        parts = name.split(".")
        if parts[:2] == ["v", "blk"] and int(parts[2]) >= layers or kind == "mlp" and name.startswith("v.post_ln"):
            continue
        if "position_embd" in name or name.endswith((".ls1", ".ls2")):
            name = name.removesuffix(".weight") + ".weight"
        if "attn.qkv" in name:
            for part, share in zip("qkv", np.split(x, 3)):
                w.add_tensor(name.replace("attn.qkv", f"attn_{part}"), share.copy())
        elif x.ndim == 5:
            w.add_tensor(name, x[:, :, 0].copy()), w.add_tensor(name + ".1", x[:, :, 1].copy())
        else:
            w.add_tensor(name, x.reshape(-1) if "class_embd" in name else x.reshape(x.shape[-2:]) if "position" in name else x)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


def tokenizer(w, folder, vocabulary, pre):
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
            w.add_tokenizer_pre(pre)
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
        w.add_add_space_prefix(sp.encode("a", out_type=str)[0].startswith("\u2581"))
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


def rope_factors(rope, width):
    """What each rotary frequency is divided by: 1 where a turn is short, `factor` where it is long, and in between what lies between."""
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    factors = []
    for pair in range(0, width, 2):
        turns = rope["original_max_position_embeddings"] / (2 * math.pi * rope["rope_theta"] ** (pair / width))
        share = min(max((turns - low) / (high - low), 0), 1)
        factors.append(1 / ((1 - share) / rope["factor"] + share))
    return np.array(factors, dtype=np.float32)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("source"), p.add_argument("out")
    p.add_argument("--type", default="f32"), p.add_argument("--folder"), p.add_argument("--mmproj"), p.add_argument("--pre", default="qwen2")
    a = p.parse_args()
    whole = c = json.load(open(os.path.join(a.source, "config.json")))
    c = c.get("text_config") or c.get("llm_config") or c
    arch = {"qwen2_vl": "qwen2vl", "qwen2_5_vl": "qwen2vl"}.get(c["model_type"], c["model_type"])
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
    if arch == "qwen2vl":
        w.add_rope_dimension_sections([*c["rope_scaling"]["mrope_section"], 0])
    if arch == "minicpm":
        w.add_embedding_scale(c["scale_emb"]), w.add_residual_scale(c["scale_depth"] / math.sqrt(c["num_hidden_layers"]))
        w.add_logit_scale(c["hidden_size"] / c["dim_model_base"])
    tokenizer(w, a.source, c["vocab_size"], a.pre)
    kind = gguf.GGMLQuantizationType[a.type.upper()]
    state, back = weights(a.source, c), {}
    vision = {name: state.pop(name) for name in list(state) if name.startswith(("vision_", "visual.", "mlp1.", "multi_modal_"))}
    state = {name.removeprefix("language_model."): x for name, x in state.items()}
    if a.mmproj:
        mmproj(a.mmproj, whole, vision, a.source)
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
    if rope.get("rope_type") == "llama3":
        w.add_tensor("rope_freqs.weight", rope_factors(rope, width))
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
    if a.folder:
        shutil.copytree(a.source, a.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors*"))
        save_file(back, os.path.join(a.folder, "model.safetensors"), metadata={"format": "pt"})


main()
