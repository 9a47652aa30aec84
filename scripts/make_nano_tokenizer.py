#!/usr/bin/env python3
"""Write the tokenizer of bluelm-nano: configs/nano/tokenizer.json and tokenizer_config.json.

Bytes are the alphabet, so that every text has ids and a letter on a picture is a letter in the answer. Two things shorten it:
a Chinese character that the training pictures use is one token (three bytes otherwise), and the words that questions are
made of are whole-word tokens. Numbers stay single digits, which is what written-out sums need.

    python scripts/make_nano_tokenizer.py          (needs: pip install tokenizers)
"""
import json
import pathlib

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

SPECIAL = ["<pad>", "<s>", "</s>", "<im_start>", "<image>", "<im_end>", "[|Human|]:", "[|AI|]:", "[|BlueThink|]"]
THOUGHT = ["<think>", "</think>"]
# Words of questions. Only whole words become tokens: "the" inside "other" stays three letters.
WORDS = """What what Which which How how Read read Is is Are are does do the of in on to for and or all this that there
cost costs price much many more most least expensive cheapest item items total sum together value sign say says text line
first last after before bar highest lowest row column table picture image show shows shown number color colour shape shapes
circles squares triangles stars red blue green yellow""".split()
# Characters of the Chinese scenes; crates/data/src/words.rs may use any others too, at three tokens each.
CHINESE = "的一是在有多少钱这上面写着什么价格合计总共元苹果咖啡茶水牛奶面包蛋糕米饭鸡肉鱼汤菜单收据小店超市欢迎光临出口入请勿吸烟停车场图书馆医院学校银行电话地址日期红色蓝绿黄圆形方三角星个几哪最贵便宜高低月周年"


def bytes_to_unicode():
    """The printable stand-ins for bytes that byte-level BPE vocabularies use."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, extra = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + extra)
            extra += 1
    return table


table = bytes_to_unicode()
vocab, merges = {}, []
for name in SPECIAL:
    vocab[name] = len(vocab)
for b in range(256):
    vocab[table[b]] = len(vocab)
for c in dict.fromkeys(CHINESE):
    a, b, d = (table[x] for x in c.encode())
    for left, right in ((a, b), (a + b, d)):
        if left + right not in vocab:
            vocab[left + right] = len(vocab)
            merges.append((left, right))

t = Tokenizer(models.BPE(vocab=vocab, merges=merges))
t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
t.decoder = decoders.ByteLevel()
t.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in SPECIAL])
t.add_tokens([AddedToken(s, normalized=False, special=False) for s in THOUGHT])
t.add_tokens([AddedToken(w, normalized=False, special=False, single_word=True) for w in dict.fromkeys(WORDS)])

out = pathlib.Path(__file__).resolve().parent.parent / "configs" / "nano"
out.mkdir(parents=True, exist_ok=True)
t.save(str(out / "tokenizer.json"))
(out / "tokenizer_config.json").write_text(json.dumps({
    "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>",
    "add_bos_token": False, "add_eos_token": False, "clean_up_tokenization_spaces": False, "model_max_length": 4096}, indent=1) + "\n")
print({name: t.token_to_id(name) for name in SPECIAL + THOUGHT}, "vocabulary", t.get_vocab_size())
for text in ("What is the total?", "合计多少钱？", "other theme 12.50€", "<think>12.50+3.20=15.70</think>15.70"):
    e = t.encode(text, add_special_tokens=False)
    print(len(e.ids), e.tokens, t.decode(e.ids, skip_special_tokens=False) == text)
