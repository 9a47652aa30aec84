#!/usr/bin/env python3
"""Makes golden/engine_*: whole tiny models, and what transformers, Jinja2 and Pillow make of conversations with pictures.

    make_engine_golden.py OUT        writes OUT/engine_v and OUT/engine_2_5 (the repository's are in golden/)

Needs torch, transformers, tokenizers, Pillow, safetensors. A folder has model/ as `bluelm run --model` takes it, and
cases/NAME/ with the pictures, oracle.json (messages, prompt, input_ids, greedy tokens) and oracle.safetensors. The two
tokenizers are of the two usual kinds: sentencepiece-like with byte fallback, and byte-level.
"""
import json
import os
import pathlib
import shutil
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from make_golden import LLAMA, QWEN3, Reference, native
from make_image_fixtures import prepare

ROOT = pathlib.Path(__file__).resolve().parent.parent
SPECIAL = ["<im_start>", "<image>", "<im_end>", "[|Human|]:", "[|AI|]:", "[|BlueThink|]"]
CORPUS = ["What is the total of this receipt?", "How many red circles are there in the picture?", "the sign says the price",
          "and here, 12 or 345 items", "compare the two pictures"] * 4
STEPS = 6


def sentencepiece_like():
    """A space is put before the text, spaces are a letter, what is unknown becomes bytes."""
    t = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    head = ["<unk>", "<s>", "</s>"]
    words = [w for line in CORPUS for w in line.split()]
    t.train_from_iterator(words, trainers.BpeTrainer(vocab_size=340, show_progress=False,
                                                     special_tokens=head + [f"<0x{i:02X}>" for i in range(256)]))
    state = json.loads(t.to_str())                  # the trainer takes byte tokens for special ones
    state["added_tokens"] = [a for a in state["added_tokens"] if a["content"] in head]
    return Tokenizer.from_str(json.dumps(state))


def byte_level():
    """Unicode is composed first; words, numbers digit by digit, and the rest apart."""
    t = Tokenizer(models.BPE(byte_fallback=False))
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=300, show_progress=False,
                                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in ("<s>", "</s>")])
    return t


def picture(width, height, seed):
    """Waves, an edge and grain, so that every step of resizing shows."""
    g = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([127 + 120 * np.sin(x / (3 + c) + y / (7 - c)) for c in range(3)], -1)
    waves[:, width // 2 :] = 255 - waves[:, width // 2 :]
    return Image.fromarray(np.clip(waves + g.normal(0, 8, waves.shape), 0, 255).astype(np.uint8))


def cases():
    """name, picture sizes, template arguments, messages"""
    image, say = {"type": "image"}, lambda s: {"type": "text", "text": s}
    user = lambda *parts: {"role": "user", "content": list(parts)}
    talk = [{"role": "system", "content": "Be brief."}, user(image, say("What is this?")),
            {"role": "assistant", "content": "<think>\nA red sign.\n</think>\n\nA sign."}, {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": "Yes"}, user(say("And "), image, say("this? 合计 é €"))]
    return [("text", [], {}, [{"role": "user", "content": "How many? 12 or 345?  two  spaces\n\n👍🏽 e\u0301"}]),
            ("one_tile", [(17, 19)], {}, [user(image, say("What is the total?"))]),
            ("grid", [(70, 44)], {}, [user(image, say("What is the total?"))]),
            ("thinking", [(21, 55)], {"enable_thinking": True}, [user(say("Count."), image)]),
            ("two_pictures", [(64, 22), (20, 20)], {}, [user(image, say("Compare "), image, say("them."))]),
            ("turns", [(30, 30), (44, 20)], {}, talk)]


def write(out, tokenizer, text, side, layer, changes, seed):
    model = out / "model"
    shutil.rmtree(out, ignore_errors=True)
    model.mkdir(parents=True)
    tokenizer.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in SPECIAL])
    tokenizer.add_tokens([AddedToken(s, normalized=False, special=False) for s in ("<think>", "</think>")])
    template = (ROOT / "configs/nano/chat_template.jinja").read_text()
    tok = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    config = native({**text, "vocab_size": -(-len(tok) // 8) * 8}, side, layer)
    for name, token in zip(("image_start", "image", "image_end", "think"), [*SPECIAL[:3], SPECIAL[5]]):
        config[name + "_token_id"] = tok.convert_tokens_to_ids(token)
    settings = json.loads((ROOT / "configs/nano/preprocessor_config.json").read_text()) | {"tile_size": side} | changes
    reference = Reference(config)
    reference.draw(seed, torch.bfloat16)
    save_file({k: v.to(torch.bfloat16).contiguous() for k, v in sorted(reference.files.items())}, model / "model.safetensors",
              metadata={"format": "pt"})
    dump = lambda path, value: path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n")
    dump(model / "config.json", config)
    dump(model / "preprocessor_config.json", settings)
    dump(model / "tokenizer_config.json", dict(bos_token="<s>", eos_token={"__type": "AddedToken", "content": "</s>"}))
    dump(model / "generation_config.json", dict(eos_token_id=[tok.eos_token_id], thinking=dict(start="<think>", end="</think>")))
    tokenizer.save(str(model / "tokenizer.json"), pretty=False)
    (model / "chat_template.jinja").write_text(template)
    per = (-(-(side // 6) // 2)) ** 2
    for number, (name, sizes, kwargs, messages) in enumerate(cases()):
        folder = out / "cases" / name
        folder.mkdir(parents=True)
        pictures = [picture(*size, 100 * number + k) for k, size in enumerate(sizes)]
        for k, image in enumerate(pictures):
            image.save(folder / f"image_{k}.png")
        tiles = [prepare(image, settings)[-1] for image in pictures]
        prompt = tok.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True, **kwargs)
        pieces = prompt.split("<im_start><image><im_end>")
        assert len(pieces) == len(tiles) + 1
        whole = pieces[0] + "".join("<im_start>" + "<image>" * (per * len(t)) + "<im_end>" + p for t, p in zip(tiles, pieces[1:]))
        ids = torch.tensor(tok(whole, add_special_tokens=False)["input_ids"])
        pixels = torch.cat([torch.from_numpy(t) for t in tiles]) if tiles else None
        greedy, taps = reference.compute(ids, pixels, STEPS)
        best = taps["decode_logits"].topk(2, -1).values
        keep = {k: taps[k].contiguous().clone() for k in ("image_embeds", "hidden.norm") if k in taps}
        if tiles:
            keep["in.pixel_values"] = pixels
        save_file(keep, folder / "oracle.safetensors")
        dump(folder / "oracle.json", dict(
            case=name, messages=messages, chat_kwargs=kwargs, images=[f"image_{k}.png" for k in range(len(pictures))], prompt=prompt,
            input_ids=ids.tolist(), greedy_tokens=greedy, greedy_margins=(best[:, 0] - best[:, 1]).tolist(),
            tensors={k: list(v.shape) for k, v in keep.items()}))
    print(out, sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) // 1000, "kB", file=sys.stderr)


if __name__ == "__main__":
    out = pathlib.Path(sys.argv[1])
    write(out / "engine_v", sentencepiece_like(), LLAMA, 20, -2, {}, 1)
    other = dict(alpha=0.2, max_grid=[3, 2], thumbnail=False, pad_color=[123, 117, 104], image_mean=[0.48, 0.46, 0.41],
                 image_std=[0.27, 0.26, 0.28])
    write(out / "engine_2_5", byte_level(), QWEN3, 24, -1, other, 2)
