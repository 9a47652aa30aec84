#!/usr/bin/env python3
"""Writes golden/gguf: three tiny random models as GGUF, and what transformers makes of their dequantized weights.

    pip install "transformers==5.23.*" torch tokenizers safetensors gguf numpy jinja2
    python scripts/make_gguf_golden.py
"""
import json, os, shutil, subprocess, sys, tempfile

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
CORPUS = ["How many apples are there? Twelve apples and three pears.", "The total of the receipt is 26.50."] * 4
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEMPLATE = "{% for m in messages %}{{ '<|user|>' + m['content'] + '<|end|>' }}{% endfor %}{{ '<|model|>' }}"
SPECIAL = ["<|user|>", "<|model|>", "<|end|>"]
QUESTION = "How many pears, 3 or 12? 合计 naïve"
SIZES = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=128)


def pieces():
    """Pieces with bytes, as sentencepiece has them."""
    t = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    head = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=325, special_tokens=head, show_progress=False))
    state = json.loads(t.to_str())
    state["added_tokens"] = [a for a in state["added_tokens"] if a["id"] < 3]
    return Tokenizer.from_str(json.dumps(state))


def bytes_():
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=317, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return t


def make(name, tokenizer, config, network, kind, eos):
    torch.manual_seed(7)
    out = os.path.join(HERE, "..", "golden", "gguf", name)
    shutil.rmtree(out, ignore_errors=True)
    case = os.path.join(out, "cases", "text")
    os.makedirs(case)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in SPECIAL])
    tok = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos, chat_template=TEMPLATE,
                                  **({"bos_token": "<s>"} if eos == "</s>" else {}))
    model = network(config(vocab_size=len(tok), **SIZES)).float()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_((torch.randn_like(p) * (0.2 if p.ndim > 1 else 0.1) + (p.ndim == 1)).bfloat16().float())
    with tempfile.TemporaryDirectory() as folder:
        source, back = os.path.join(folder, "source"), os.path.join(folder, "back")
        model.save_pretrained(source), tok.save_pretrained(source)
        subprocess.run([sys.executable, os.path.join(HERE, "make_gguf.py"), source, os.path.join(out, "model.gguf"),
                        "--type", kind, "--folder", back], check=True)
        model = network.from_pretrained(back, dtype=torch.float32).eval()
    messages = [{"role": "user", "content": QUESTION}]
    prompt = tok.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tok(prompt, add_special_tokens=False)["input_ids"]
    tokens, margins, decode = [], [], []
    with torch.no_grad():
        prefill = model(torch.tensor([ids])).logits[0]
        row = prefill[-1]
        for _ in range(12):
            best = row.topk(2).values
            tokens.append(int(row.argmax())), margins.append(float(best[0] - best[1])), decode.append(row)
            row = model(torch.tensor([ids + tokens])).logits[0, -1]
    tensors = {"prefill_logits": prefill.contiguous(), "decode_logits": torch.stack(decode)}
    save_file(tensors, os.path.join(case, "oracle.safetensors"))
    json.dump(dict(messages=messages, chat_kwargs={}, images=[], prompt=prompt, input_ids=ids, greedy_tokens=tokens,
                   greedy_margins=margins, tensors={k: list(v.shape) for k, v in tensors.items()}),
              open(os.path.join(case, "oracle.json"), "w"), ensure_ascii=False)


make("llama_q4_0", pieces(), LlamaConfig, LlamaForCausalLM, "q4_0", "</s>")
STRETCHED = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                 original_max_position_embeddings=32)
make("llama3_q8_0", pieces(), lambda **k: LlamaConfig(rope_parameters=STRETCHED, **k), LlamaForCausalLM, "q8_0", "</s>")
make("qwen3_q8_0", bytes_(), lambda **k: Qwen3Config(head_dim=16, tie_word_embeddings=True, **k), Qwen3ForCausalLM, "q8_0", "<|end|>")
