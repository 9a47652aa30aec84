#!/usr/bin/env python3
"""Makes golden/: tiny random models in our checkpoint format, and what transformers' layers compute with them.

    make_golden.py OUT              writes OUT/NAME/ for every model below
    make_golden.py --check DIR...   computes folders of recorded cases again (DIR/model, DIR/cases/*/oracle.safetensors) and
                                    prints the largest difference: this script's network against another's

Needs torch, transformers 5.23, safetensors, numpy. Each folder holds config.json, the weights, and cases.safetensors with
tensors named CASE/TENSOR: ids, greedy (int64), pixels, then the intermediates in float32, whole. Weights are drawn so that
every tensor matters, and rounded to the type they are stored in, so that the file is exact and the reference runs in f32.
"""
import argparse
import json
import math
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, SiglipVisionConfig, SiglipVisionModel

torch.set_num_threads(1)

TEXT = dict(vocab_size=48, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=512, hidden_act="silu")
LLAMA = dict(model_type="llama", num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False)
QWEN2 = dict(model_type="qwen2", num_key_value_heads=1, rms_norm_eps=1e-6, rope_theta=1e6, tie_word_embeddings=True)
QWEN3 = dict(model_type="qwen3", num_key_value_heads=2, head_dim=10, rms_norm_eps=1e-6, tie_word_embeddings=True,
             rope_parameters=dict(rope_type="default", rope_theta=1e6))
IMAGE, START, END, THINK = 40, 41, 42, 43


def native(text, image, layer):
    """Sides of 3 x 3 and 4 x 4 patches: the first has a patch row of zeros behind it and pixels that nothing sees."""
    return dict(
        model_type="bluelm_v", vision_feature_layer=layer, projector_config=dict(merge_size=2, norm_eps=1e-5, hidden_act="gelu"),
        vision_config=dict(model_type="siglip_vision_model", hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
                           image_size=image, patch_size=6, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6, vision_use_head=False),
        text_config={**TEXT, **text}, image_token_id=IMAGE, image_start_token_id=START, image_end_token_id=END, think_token_id=THINK)


# name -> config, type of the numbers in the file, files
MODELS = {
    "bluelm_v": (native(LLAMA, 20, -2), torch.bfloat16, 1),
    "bluelm_2_5": (native(QWEN3, 24, -1), torch.bfloat16, 1),
    "bluelm_v_first_layers": (native({**LLAMA, "model_type": "bluelm", "num_key_value_heads": 4}, 20, -3), torch.float32, 1),
    "llama": ({**TEXT, **LLAMA, "attention_bias": True}, torch.float32, 1),
    "qwen2": ({**TEXT, **QWEN2}, torch.float16, 3),
    "qwen3": ({**TEXT, **QWEN3}, torch.bfloat16, 1),
}


class TextNorm(nn.Module):
    """`bluelm` text: LayerNorm behind the embedding; only text tokens come here."""

    def __init__(self, embedding, eps):
        super().__init__()
        self.embedding, self.norm = embedding, nn.LayerNorm(embedding.embedding_dim, eps=eps)

    def forward(self, ids):
        return self.norm(self.embedding(ids))


def merge_blocks(x, k):
    """[tiles, g*g, c] -> [tiles, blocks, k*k*c], zeros behind the last row and column."""
    t, n, c = x.shape
    g = math.isqrt(n)
    b = -(-g // k)
    x = F.pad(x.view(t, g, g, c), (0, 0, 0, b * k - g, 0, b * k - g))
    return x.view(t, b, k, b, k, c).permute(0, 1, 3, 2, 4, 5).reshape(t, b * b, k * k * c)


class Reference:
    """The network that a config.json describes, from transformers' layers; `files` maps file names to live tensors."""

    def __init__(self, config):
        text = dict(config.get("text_config", config))
        self.config, self.files, self.tower = config, {}, None
        stable = text["model_type"].lower() == "bluelm"
        if stable:
            text["model_type"] = "llama"
        tc = AutoConfig.for_model(**{k: v for k, v in text.items() if k not in ("architectures", "use_stable_embedding")})
        self.lm = AutoModelForCausalLM.from_config(tc, attn_implementation="eager").eval().float()
        prefix = "language_model." if "vision_config" in config else ""
        if stable:
            self.lm.model.embed_tokens = TextNorm(self.lm.model.embed_tokens, text["rms_norm_eps"])
        names = {".embed_tokens.embedding.": ".embed_tokens.", ".embed_tokens.norm.": ".embed_layer_norm."}
        for name, tensor in self.lm.state_dict().items():
            for old, new in names.items():
                name = name.replace(old, new)
            if not (text["tie_word_embeddings"] and name == "lm_head.weight"):
                self.files[prefix + name] = tensor
        if "vision_config" in config:
            self.build_tower(config, tc.hidden_size)

    def build_tower(self, config, width):
        vc = SiglipVisionConfig(**{k: v for k, v in config["vision_config"].items() if k != "model_type"})
        vc._attn_implementation = "eager"
        self.tower = SiglipVisionModel(vc).eval().float()
        p = config["projector_config"]
        merged = p["merge_size"] ** 2 * vc.hidden_size
        self.projector = nn.ModuleDict(dict(norm=nn.LayerNorm(merged, eps=p["norm_eps"]), linear_1=nn.Linear(merged, width),
                                            linear_2=nn.Linear(width, width))).float()
        for name, tensor in self.tower.state_dict().items():
            self.files["vision_tower.vision_model." + name.removeprefix("vision_model.")] = tensor
        for name, tensor in self.projector.state_dict().items():
            self.files["multi_modal_projector." + name] = tensor

    @torch.no_grad()
    def draw(self, seed, dtype):
        g = torch.Generator().manual_seed(seed)
        for name, t in sorted(self.files.items()):
            if "norm" in name and name.endswith("weight"):
                std, mean = 0.1, 1.0
            elif t.ndim == 1:
                std, mean = 0.1, 0.0
            elif "embed" in name and "patch" not in name:
                std, mean = (0.3 if "position" in name else 0.5), 0.0
            else:
                std, mean = 1 / math.sqrt(t[0].numel()), 0.0
            t.copy_((torch.randn(t.shape, generator=g) * std + mean).to(dtype).float())

    @torch.no_grad()
    def load(self, weights):
        assert self.files.keys() == weights.keys(), sorted(self.files.keys() ^ weights.keys())
        for name, t in self.files.items():
            t.copy_(weights[name].float())

    @torch.no_grad()
    def compute(self, ids, pixels, steps):
        """-> (greedy tokens, intermediates)"""
        taps, embed = {}, self.lm.get_input_embeddings()
        x = embed(ids)
        if pixels is not None:
            layer = self.config["vision_feature_layer"]
            out = self.tower(pixels, output_hidden_states=True)
            taps["vision_features"] = out.last_hidden_state if layer == -1 else out.hidden_states[layer]
            taps["merged"] = merge_blocks(taps["vision_features"], self.config["projector_config"]["merge_size"])
            p = self.projector
            taps["image_embeds"] = p["linear_2"](F.gelu(p["linear_1"](p["norm"](taps["merged"])))).flatten(0, 1)
            x[ids == self.config["image_token_id"]] = taps["image_embeds"]
        taps["inputs_embeds"] = x
        def keep(name, value):
            taps.setdefault(name, value[0].clone())

        hooks = [layer.register_forward_pre_hook(lambda m, a, kw, i=i: keep(f"hidden.{i}", a[0] if a else kw["hidden_states"]), with_kwargs=True)
                 for i, layer in enumerate(self.lm.model.layers)]
        hooks.append(self.lm.model.norm.register_forward_hook(lambda m, a, o: keep("hidden.norm", o)))
        out = self.lm(inputs_embeds=x[None], use_cache=True)
        for hook in hooks:
            hook.remove()
        taps["prefill_logits"] = out.logits[0]
        greedy, rows = [], [out.logits[0, -1]]
        for _ in range(steps):
            greedy.append(int(rows[-1].argmax()))
            if len(greedy) < steps:
                out = self.lm(inputs_embeds=embed(torch.tensor([[greedy[-1]]])), past_key_values=out.past_key_values, use_cache=True)
                rows.append(out.logits[0, -1])
        taps["decode_logits"] = torch.stack(rows)
        return greedy, taps


def cases(config, g):
    """Text; one tile; a thumbnail with tiles; two pictures of different sizes with a thought: (name, tiles, ids)."""
    words = lambda n: torch.randint(0, IMAGE, (n,), generator=g).tolist()
    yield "text", 0, words(9)
    if "vision_config" not in config:
        return
    v = config["vision_config"]
    per = (-(-(v["image_size"] // v["patch_size"]) // config["projector_config"]["merge_size"])) ** 2
    picture = lambda tiles: [START] + [IMAGE] * (per * tiles) + [END]
    yield "one_tile", 1, words(2) + picture(1) + words(3)
    yield "tiles", 3, words(1) + picture(3) + words(4)
    yield "two_pictures", 3, words(1) + picture(1) + picture(2) + words(3) + [THINK]


def write(folder, seed, config, dtype, count):
    os.makedirs(folder, exist_ok=True)
    reference = Reference(config)
    reference.draw(seed, dtype)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
        f.write("\n")
    weights = {k: v.to(dtype).contiguous() for k, v in sorted(reference.files.items())}
    if count == 1:
        save_file(weights, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    else:
        place = {k: f"model-{i * count // len(weights) + 1:05}-of-{count:05}.safetensors" for i, k in enumerate(weights)}
        for name in set(place.values()):
            save_file({k: v for k, v in weights.items() if place[k] == name}, os.path.join(folder, name), metadata={"format": "pt"})
        with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
            json.dump(dict(metadata={}, weight_map=place), f, indent=1)
            f.write("\n")
    g, out = torch.Generator().manual_seed(seed + 1000), {}
    for name, tiles, ids in cases(config, g):
        side = config["vision_config"]["image_size"] if tiles else 0
        pixels = torch.rand(tiles, 3, side, side, generator=g) * 2 - 1 if tiles else None
        ids = torch.tensor(ids)
        greedy, taps = reference.compute(ids, pixels, 5)
        out.update({f"{name}/ids": ids, f"{name}/greedy": torch.tensor(greedy)}, **{f"{name}/{k}": v.contiguous() for k, v in taps.items()})
        if tiles:
            out[f"{name}/pixels"] = pixels
    save_file({k: v.clone() for k, v in out.items()}, os.path.join(folder, "cases.safetensors"))


def check(folder):
    """Another reference's folder, computed by this script's network: the largest relative difference."""
    model = os.path.join(folder, "model")
    reference = Reference(json.load(open(os.path.join(model, "config.json"))))
    reference.load(load_file(os.path.join(model, "model.safetensors")))
    worst = (0.0, "")
    for case in sorted(os.listdir(os.path.join(folder, "cases"))):
        path = os.path.join(folder, "cases", case)
        ids = torch.tensor(json.load(open(os.path.join(path, "oracle.json")))["input_ids"])
        theirs = load_file(os.path.join(path, "oracle.safetensors"))
        _, taps = reference.compute(ids, theirs.get("in.pixel_values"), len(theirs["decode_logits"]))
        for name, value in taps.items():
            if name in theirs:
                worst = max(worst, (((value - theirs[name]).abs().max() / theirs[name].abs().max()).item(), f"{case} {name}"))
    print(f"{folder}: {worst[0]:.1e} {worst[1]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("folders", nargs="+")
    arguments = parser.parse_args()
    if arguments.check:
        for folder in arguments.folders:
            check(folder)
        return
    for seed, (name, (config, dtype, count)) in enumerate(MODELS.items()):
        write(os.path.join(arguments.folders[0], name), seed, config, dtype, count)
        print(name, sum(os.path.getsize(os.path.join(arguments.folders[0], name, f)) for f in os.listdir(os.path.join(arguments.folders[0], name))), file=sys.stderr)


if __name__ == "__main__":
    main()
