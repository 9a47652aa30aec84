#!/usr/bin/env python3
"""Ten AdamW steps of two tiny networks in PyTorch: losses, gradients and final values for crates/train's tests.

    pip install torch transformers        (tried with torch 2.15, transformers 5.23)
    python scripts/make_train_fixture.py  (writes crates/train/tests/fixtures/torch.json)

Weights, pixels and tokens come from a formula (`draw`) that the Rust test repeats, so the file holds only what PyTorch
computed. The networks are transformers' own SigLIP, Llama and Qwen3 with the projector written out here. Questions are
given to PyTorch as separate samples; the Rust side packs them behind one picture.
"""
import json
import math
import os

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForCausalLM, SiglipVisionConfig, SiglipVisionModel

IMAGE_TOKEN, VOCABULARY, STEPS = 3, 40, 10
OPTIMIZER = dict(learning_rate=2e-3, beta1=0.9, beta2=0.98, epsilon=1e-6, weight_decay=0.05, clip_norm=1.0, vision_layer_decay=0.9)
# tiles and the lengths of the questions' branches, for each sequence
SEQUENCES = [dict(tiles=3, branches=[9, 14, 5]), dict(tiles=1, branches=[6, 7])]


def config(text, tied, feature_layer, image):
    vision = dict(model_type="siglip_vision_model", hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3,
                  image_size=image, patch_size=4, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6, vision_use_head=False)
    decoder = dict(model_type=text, vocab_size=VOCABULARY, hidden_size=48, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
                   num_key_value_heads=2, head_dim=12, hidden_act="silu", rms_norm_eps=1e-5, rope_theta=10000.0,
                   max_position_embeddings=4096, attention_bias=False, tie_word_embeddings=tied)
    return dict(architectures=["BlueLMVForConditionalGeneration"], model_type="bluelm_v", vision_config=vision, vision_feature_layer=feature_layer,
                projector_config=dict(merge_size=2, norm_eps=1e-5, hidden_act="gelu"), text_config=decoder, image_token_id=IMAGE_TOKEN,
                image_start_token_id=4, image_end_token_id=5, think_token_id=6)


def draw(name, count):
    """`count` numbers in [-1, 1) that depend on the name: FNV-1a, then a mixer per index."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    x = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    x ^= x >> np.uint64(32)
    x *= np.uint64(0xD6E8FEB86659FD93)
    x ^= x >> np.uint64(32)
    return (x >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def weights(name, shape):
    u = draw(name, math.prod(shape))
    if len(shape) == 1:
        u = 0.2 * u + (1.0 if name.endswith("norm.weight") or "norm1.weight" in name or "norm2.weight" in name else 0.0)
    elif "position" in name:
        u = 0.5 * u
    else:
        u = u * math.sqrt(3 / math.prod(shape[1:]))
    return torch.from_numpy(u.astype(np.float32)).reshape(tuple(shape))


def merge(x, k):
    """[tiles, patches, C] -> [tiles, tokens, k*k*C], the grid zero-padded behind its last row and column"""
    n, p, c = x.shape
    g = math.isqrt(p)
    s = -(-g // k)
    y = F.pad(x.view(n, g, g, c), (0, 0, 0, s * k - g, 0, s * k - g))
    return y.view(n, s, k, s, k, c).permute(0, 1, 3, 2, 4, 5).reshape(n, s * s, k * k * c)


class Net(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        vc = SiglipVisionConfig(**{k: v for k, v in cfg["vision_config"].items() if k != "model_type"})
        tc = AutoConfig.for_model(**cfg["text_config"])
        vc._attn_implementation = "eager"
        d, c, p = tc.hidden_size, vc.hidden_size, cfg["projector_config"]
        self.tower, self.layer, self.k = SiglipVisionModel(vc), cfg["vision_feature_layer"], p["merge_size"]
        inner = self.k**2 * c
        self.proj = nn.ModuleDict(dict(norm=nn.LayerNorm(inner, eps=p["norm_eps"]), linear_1=nn.Linear(inner, d), linear_2=nn.Linear(d, d)))
        self.lm = AutoModelForCausalLM.from_config(tc, attn_implementation="eager")

    def named(self):
        """file name -> parameter"""
        own = {}
        for name, value in self.tower.named_parameters():
            own["vision_tower.vision_model." + name.removeprefix("vision_model.")] = value
        own.update({"multi_modal_projector." + n: v for n, v in self.proj.named_parameters()})
        own.update({"language_model." + n: v for n, v in self.lm.named_parameters()})
        return own

    def embed(self, pixels):
        o = self.tower(pixels, output_hidden_states=True)
        x = o.last_hidden_state if self.layer == -1 else o.hidden_states[self.layer]
        return self.proj["linear_2"](F.gelu(self.proj["linear_1"](self.proj["norm"](merge(x, self.k))))).flatten(0, 1)

    def logits(self, ids, images):
        x = self.lm.get_input_embeddings()(ids)
        x = x.masked_scatter((ids == IMAGE_TOKEN)[:, None].expand_as(x), images)
        return self.lm(inputs_embeds=x[None]).logits[0]


def token(name, count, low=7):
    return [low + int((u + 1) / 2 * (VOCABULARY - low)) for u in draw(name, count)]


def samples(cfg):
    """One dict per sequence: pixels and, for each question, ids, labels (of the same places), weights."""
    side, out = cfg["vision_config"]["image_size"], []
    per_tile = math.ceil(side // cfg["vision_config"]["patch_size"] / cfg["projector_config"]["merge_size"]) ** 2
    for s, spec in enumerate(SEQUENCES):
        px = draw(f"pixels.{s}", spec["tiles"] * 3 * side * side).astype(np.float32).reshape(-1, 3, side, side)
        prefix, questions = [1, 4] + [IMAGE_TOKEN] * (per_tile * spec["tiles"]) + [5], []
        for b, n in enumerate(spec["branches"]):
            words, targets = token(f"words.{s}.{b}", n), token(f"targets.{s}.{b}", n)
            labels = [-100] * len(prefix) + [-100 if i < n // 2 else t for i, t in enumerate(targets)]
            scale = [0.0] * len(prefix) + [1 + 0.5 * u for u in draw(f"weights.{s}.{b}", n)]
            questions.append(dict(ids=prefix + words, labels=labels, weights=scale))
        out.append(dict(pixels=torch.from_numpy(px), questions=questions))
    return out


def loss_of(net, data):
    total = weight = 0.0
    for sample in data:
        images = net.embed(sample["pixels"])
        for q in sample["questions"]:
            logits = net.logits(torch.tensor(q["ids"]), images)
            labels = torch.tensor(q["labels"])
            w = torch.tensor(np.float32(q["weights"])) * (labels != -100)
            ce = F.cross_entropy(logits, labels, reduction="none", ignore_index=-100)
            total, weight = total + (w * ce).sum(), weight + w.sum().item()
    return total / weight


def layer_rate(name, layers):
    if not name.startswith("vision_tower"):
        return 1.0
    parts = name.split(".")
    i = layers + 1 if "post_layernorm" in name else int(parts[parts.index("layers") + 1]) + 1 if "layers" in parts else 0
    return OPTIMIZER["vision_layer_decay"] ** (layers + 1 - i)


def run(cfg):
    torch.manual_seed(0)
    net = Net(cfg).float().train()
    own, o = net.named(), OPTIMIZER
    for name, value in own.items():
        value.data.copy_(weights(name, value.shape))
    groups = [dict(params=[v], lr=o["learning_rate"] * layer_rate(n, cfg["vision_config"]["num_hidden_layers"]),
                   weight_decay=0.0 if v.ndim == 1 or "position" in n else o["weight_decay"]) for n, v in own.items()]
    optimizer = torch.optim.AdamW(groups, betas=(o["beta1"], o["beta2"]), eps=o["epsilon"])
    data, losses, norms, gradients = samples(cfg), [], [], None
    for step in range(STEPS):
        for v in own.values():
            v.grad = torch.zeros_like(v)
        loss = loss_of(net, data)
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            gradients = {n: sample_of(v.grad) for n, v in own.items()}
        norms.append(torch.nn.utils.clip_grad_norm_(own.values(), o["clip_norm"]).item())
        optimizer.step()
    values = {n: sample_of(v.data) for n, v in own.items()}
    return dict(config=cfg, losses=losses, gradient_norms=norms, gradients=gradients, values=values)


def sample_of(tensor):
    """Length of a tensor and nine of its elements, evenly spread."""
    flat = tensor.flatten().double()
    places = [i * (len(flat) - 1) // 8 for i in range(9)]
    return dict(length=flat.norm().item(), elements=[float(np.float32(flat[p].item())) for p in places])


def main():
    torch.set_num_threads(1)
    cases = [run(config("llama", True, -2, 14)), run(config("qwen3", False, -1, 16))]
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.path.join(root, "crates/train/tests/fixtures/torch.json")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    body = dict(made_by="scripts/make_train_fixture.py", optimizer=OPTIMIZER, sequences=SEQUENCES, cases=cases)
    with open(path, "w") as f:
        json.dump(body, f, indent=None, separators=(",", ":"))
        f.write("\n")
    print(path, os.path.getsize(path), "bytes", cases[0]["losses"], cases[1]["losses"])


if __name__ == "__main__":
    main()
