#!/usr/bin/env python3
"""Eight clients at once, three of ten requests abandoned: every answer must be the one that the question has alone.

    bluelm serve &
    python3 scripts/contract/load.py 127.0.0.1:8080 examples 12 $(pgrep -f 'bluelm serve')

Arguments: address, folder of the example pictures, requests of each client, and, for its memory, the server's process.
"""

import base64
import http.client
import json
import pathlib
import random
import sys
import threading
import time

address, folder, count = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
process = sys.argv[4] if len(sys.argv) > 4 else None
names = ["sign.png", "chart.png", "form.png", "list.png"]
pictures = ["data:image/png;base64," + base64.b64encode((folder / name).read_bytes()).decode() for name in names]
questions = ["What is the total?", "What does the sign say?", "Which bar is the highest?"]


def memory_mib():
    if not process:
        return None
    lines = open(f"/proc/{process}/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1024


def ask(picture, question, leave_after_s=None):
    content = [{"type": "image_url", "image_url": {"url": pictures[picture]}}, {"type": "text", "text": questions[question]}]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 24, "temperature": 0.8, "seed": 7, "stream": leave_after_s is not None}
    connection = http.client.HTTPConnection(address, timeout=600)
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    if leave_after_s is not None:
        time.sleep(leave_after_s)
        connection.sock.close()
        return None
    reply = json.loads(connection.getresponse().read())
    return reply["choices"][0]["message"]["content"] if "choices" in reply else reply


alone = {(p, q): ask(p, q) for p in range(len(pictures)) for q in range(len(questions))}
before, started = memory_mib(), time.time()
wrong, answered, abandoned = [], [], []


def client(seed):
    draw = random.Random(seed)
    for _ in range(count):
        key = draw.randrange(len(pictures)), draw.randrange(len(questions))
        if draw.random() < 0.3:
            abandoned.append(ask(*key, leave_after_s=draw.random() / 2))
            continue
        answer = ask(*key)
        answered.append(answer)
        if answer != alone[key]:
            wrong.append((key, answer, alone[key]))


threads = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
time.sleep(2)
print(f"answered {len(answered)}, abandoned {len(abandoned)}, wrong {len(wrong)}, {time.time() - started:.0f} s, MiB before and after: {before}, {memory_mib()}")
sys.exit(f"wrong: {wrong[:3]}" if wrong else 0)
