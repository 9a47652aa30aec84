#!/usr/bin/env python3
"""The training step of `cargo bench -p train --bench step`, in PyTorch on the CPU: same shapes, same work, milliseconds.

    pip install torch                       (tried with torch 2.15)
    python scripts/bench_train_torch.py [--threads 2] [--steps 10]

Written as one would for speed: q, k, v and gate, up in one matrix each, scaled_dot_product_attention, the fused AdamW,
the head on supervised places only, all pictures of a step as one batch, question branches packed behind their picture
with a mask. Prints one JSON line last.
"""
import argparse
import json
import math
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

WIDTH, HEADS, VISION_LAYERS, VISION_FFN, DECODER_LAYERS, FFN, VOCABULARY = 192, 6, 5, 768, 6, 512, 528
SIDE, PATCH, TILES, PICTURES, BRANCHES, LENGTH, SUPERVISED = 8, 16, 7, 8, 8, 40, 12


class VisionLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, VISION_FFN), nn.Linear(VISION_FFN, WIDTH)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, WIDTH))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x)), approximate="tanh"))


class DecoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(WIDTH, eps=1e-5), nn.RMSNorm(WIDTH, eps=1e-5)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.gate_up, self.down = nn.Linear(WIDTH, 2 * FFN, bias=False), nn.Linear(FFN, WIDTH, bias=False)

    def forward(self, x, cos, sin, mask):
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        turn = lambda t: t * cos + torch.cat((-t[..., t.shape[-1] // 2:], t[..., : t.shape[-1] // 2]), -1) * sin
        x = x + self.out(F.scaled_dot_product_attention(turn(q), turn(k), v, attn_mask=mask).transpose(1, 2).reshape(b, n, WIDTH))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch, self.positions = nn.Linear(3 * PATCH * PATCH, WIDTH), nn.Parameter(torch.randn(SIDE * SIDE, WIDTH) * 0.1)
        self.vision = nn.ModuleList([VisionLayer() for _ in range(VISION_LAYERS)])
        self.post = nn.LayerNorm(WIDTH, eps=1e-6)
        self.proj = nn.Sequential(nn.LayerNorm(4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.decoder = nn.ModuleList([DecoderLayer() for _ in range(DECODER_LAYERS)])
        self.norm = nn.RMSNorm(WIDTH, eps=1e-5)

    def loss(self, pixels, tokens, image_places, cos, sin, mask, supervised, labels):
        t = pixels.shape[0]
        x = pixels.view(t, 3, SIDE, PATCH, SIDE, PATCH).permute(0, 2, 4, 1, 3, 5).reshape(t, SIDE * SIDE, -1)
        x = self.patch(x) + self.positions
        for layer in self.vision:
            x = layer(x)
        x = self.post(x).view(t, SIDE // 2, 2, SIDE // 2, 2, WIDTH).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4 * WIDTH)
        y = self.embed(tokens)
        y = y.reshape(-1, WIDTH).index_copy(0, image_places, self.proj(x)).view(y.shape)
        for layer in self.decoder:
            y = layer(y, cos, sin, mask)
        y = self.norm(y.reshape(-1, WIDTH)[supervised])
        return F.cross_entropy(y @ self.embed.weight.T, labels)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--threads", type=int, default=2)
    args.add_argument("--steps", type=int, default=10)
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    images = TILES * SIDE * SIDE // 4
    prefix = 3 + images + 1
    branch = torch.tensor([0] * prefix + [b + 1 for b in range(BRANCHES) for _ in range(LENGTH)])
    n = len(branch)
    positions = torch.tensor(list(range(prefix)) + [prefix + i for _ in range(BRANCHES) for i in range(LENGTH)])
    sees = (branch[None, :] == 0) | (branch[None, :] == branch[:, None])
    mask = sees & torch.ones(n, n, dtype=torch.bool).tril()
    dim = WIDTH // HEADS
    angle = positions[:, None] * 10000.0 ** (-torch.arange(0, dim, 2) / dim)
    cos, sin = torch.cat((angle, angle), -1).cos(), torch.cat((angle, angle), -1).sin()
    tokens = torch.randint(9, VOCABULARY, (PICTURES, n))
    image_places = torch.cat([torch.arange(images) + p * n + 3 for p in range(PICTURES)])
    last = torch.cat([torch.arange(SUPERVISED) + prefix + (b + 1) * LENGTH - SUPERVISED for b in range(BRANCHES)])
    supervised = torch.cat([last + p * n for p in range(PICTURES)])
    labels = torch.randint(9, VOCABULARY, (len(supervised),))
    pixels = torch.rand(PICTURES * TILES, 3, SIDE * PATCH, SIDE * PATCH) * 2 - 1
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.05, fused=True)
    times = []
    for step in range(args.steps + 2):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = net.loss(pixels, tokens, image_places, cos, sin, mask, supervised, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        if step >= 2:
            times.append((time.perf_counter() - start) * 1e3)
    times.sort()
    print(json.dumps(dict(bench="train step", by="torch " + torch.__version__, threads=args.threads, median_ms=round(times[len(times) // 2], 1),
                          least_ms=round(times[0], 1), rows=PICTURES * (n + TILES * SIDE * SIDE), loss=round(loss.item(), 4))))


if __name__ == "__main__":
    main()
