#!/usr/bin/env python3
"""Takes some cases of a folder with a reference's values into golden/families: what fits into a repository.

    make_family_golden.py FOLDER NAME CASE...

FOLDER has model/ and cases/CASE/ as `bluelm verify` reads them. Kept are the files that a model is loaded from, and of the
tensors the pixels (where there are few), the image embeddings, the decoder's states and the logits of the tokens that follow.
"""
import json
import os
import shutil
import sys

from safetensors.numpy import load_file, save_file

MODEL = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "added_tokens.json",
         "preprocessor_config.json", "chat_template.jinja", "generation_config.json")
# Bytes of a case's pixels that are still few.
MOST_PIXELS = 300_000
TENSORS = ("in.pixel_values", "image_embeds", "hidden.0", "hidden.1", "hidden.2", "hidden.norm", "decode_logits")


def main():
    folder, name, *cases = sys.argv[1:]
    out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "families", name)
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(os.path.join(out, "model"))
    model = os.path.join(folder, "model")
    for place, _, files in os.walk(model):
        to = os.path.join(out, "model", os.path.relpath(place, model))
        os.makedirs(to, exist_ok=True)
        for file in MODEL:
            if file in files:
                shutil.copy(os.path.join(place, file), os.path.join(to, file))
    for case in cases:
        source, to = os.path.join(folder, "cases", case), os.path.join(out, "cases", case)
        os.makedirs(to)
        tensors = {k: v for k, v in load_file(os.path.join(source, "oracle.safetensors")).items() if k in TENSORS}
        if tensors.get("in.pixel_values", tensors["hidden.0"]).nbytes > MOST_PIXELS:
            del tensors["in.pixel_values"]
        save_file(tensors, os.path.join(to, "oracle.safetensors"))
        known = json.load(open(os.path.join(source, "oracle.json")))
        known["tensors"] = {k: list(v.shape) for k, v in tensors.items()}
        json.dump(known, open(os.path.join(to, "oracle.json"), "w"), ensure_ascii=False)
        for image in known["images"]:
            shutil.copy(os.path.join(source, image), os.path.join(to, image))


if __name__ == "__main__":
    main()
