#!/usr/bin/env python3
"""What llama.cpp makes of a GGUF file, as a case that `bluelm verify` reads: ids, logits and greedy tokens of one question.

    pip install llama-cpp-python numpy safetensors
    python scripts/peers/llama_case.py MODEL.gguf CASES/cases/NAME [--text "..."] [--tokens 64]
    bluelm verify CASES --model MODEL.gguf --tolerance 0.02

llama.cpp rounds the rows that go into a quantized matrix to 8 bits in blocks of 32 (or 256); so logits differ by what that loses,
and tokens are compared where the margin is larger.
"""
import argparse, json, os

import jinja2
import llama_cpp
import numpy as np
from safetensors.numpy import save_file

p = argparse.ArgumentParser()
p.add_argument("model"), p.add_argument("out")
p.add_argument("--text", default="What is the total of the receipt? 12 apples, 3 pears.")
p.add_argument("--tokens", type=int, default=64)
a = p.parse_args()
# Keys and values as f32: only matrices differ.
llm = llama_cpp.Llama(a.model, n_ctx=512, logits_all=True, n_threads=1, verbose=False, type_k=0, type_v=0, flash_attn=False)
meta = llm.metadata
name = lambda key: llm._model.token_get_text(int(meta[key])) if key in meta else ""
bos, eos = name("tokenizer.ggml.bos_token_id"), name("tokenizer.ggml.eos_token_id")
env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
messages = [{"role": "user", "content": a.text}]
template = env.from_string(meta["tokenizer.chat_template"])
prompt = template.render(messages=messages, add_generation_prompt=True, bos_token=bos, eos_token=eos)
begins = meta.get("tokenizer.ggml.add_bos_token", "true") == "true" and meta["general.architecture"] in ("minicpm", "internlm2")
ids = llm.tokenize(prompt.encode(), add_bos=begins and not prompt.startswith(bos), special=True)
llm.eval(ids)
prefill = llm.scores[: len(ids)].copy()
tokens, margins, decode = [], [], []
row = prefill[-1]
for _ in range(a.tokens):
    best = np.sort(row)[-2:]
    tokens.append(int(row.argmax())), margins.append(float(best[1] - best[0]))
    decode.append(row.copy())
    llm.eval([tokens[-1]])
    row = llm.scores[len(ids) + len(tokens) - 1]
tensors = {"prefill_logits": prefill, "decode_logits": np.stack(decode)}
os.makedirs(a.out, exist_ok=True)
save_file({k: np.ascontiguousarray(v, dtype=np.float32) for k, v in tensors.items()}, os.path.join(a.out, "oracle.safetensors"))
json.dump(dict(messages=messages, chat_kwargs={}, images=[], prompt=prompt, input_ids=ids, greedy_tokens=tokens,
               greedy_margins=margins, tensors={k: list(v.shape) for k, v in tensors.items()}),
          open(os.path.join(a.out, "oracle.json"), "w"))
