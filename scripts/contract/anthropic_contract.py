#!/usr/bin/env python3
"""The contract with Anthropic's own Python client, against a running `bluelm serve`.

    bluelm serve &
    python3 -m venv venv && venv/bin/pip install anthropic
    venv/bin/python scripts/contract/anthropic_contract.py http://127.0.0.1:8080 examples/receipt.png

Not in it, because the server refuses them so far: tools.
"""

import base64
import sys

import anthropic

base, picture = sys.argv[1].rstrip("/"), sys.argv[2]
client = anthropic.Anthropic(base_url=base, api_key=sys.argv[3] if len(sys.argv) > 3 else "none", max_retries=0)
data = base64.b64encode(open(picture, "rb").read()).decode()
image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
ask = [{"role": "user", "content": [image, {"type": "text", "text": "What is the total?"}]}]
sum_up = [{"role": "user", "content": [image, {"type": "text", "text": "What do all items cost together?"}]}]
checks = 0


def check(what, holds, found=None):
    global checks
    checks += 1
    print(f"{'ok  ' if holds else 'FAIL'} {what}")
    if not holds:
        sys.exit(f"{what}: {found!r}")


def refused(what, kind, call):
    try:
        call()
    except kind as error:
        check(what, error.body["type"] == "error" and bool(error.body["error"]["message"]), error.body)
        return
    check(what, False, "no error")


whole = client.messages.create(model="bluelm", max_tokens=64, messages=ask)
text = whole.content[0].text
check("an answer about a picture", bool(text), whole)
check("its end", whole.stop_reason == "end_turn", whole)
check("its usage", whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0) > 0 and whole.usage.output_tokens > 0, whole.usage)

with client.messages.stream(model="bluelm", max_tokens=64, messages=ask) as stream:
    said = "".join(stream.text_stream)
    final = stream.get_final_message()
check("a stream says the same", said == text, (said, text))
check("its end is told", final.stop_reason == "end_turn" and final.usage.output_tokens == whole.usage.output_tokens, final)

cut = client.messages.create(model="bluelm", max_tokens=2, messages=ask)
check("a cut answer", cut.stop_reason == "max_tokens" and cut.usage.output_tokens == 2, cut)
stopped = client.messages.create(model="bluelm", max_tokens=64, messages=ask, stop_sequences=[text[1:3]])
check("a stop sequence is told", (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", text[1:3]), stopped)

thinking = client.messages.create(model="bluelm", max_tokens=2048, messages=sum_up, thinking={"type": "enabled", "budget_tokens": 1024})
check("a thought is a block of its own", [block.type for block in thinking.content] == ["thinking", "text"], thinking.content)
with client.messages.stream(model="bluelm", max_tokens=2048, messages=sum_up, thinking={"type": "enabled", "budget_tokens": 1024}) as stream:
    kinds = [event.type for event in stream]
    final = stream.get_final_message()
check("a thought is streamed", final.content[0].thinking == thinking.content[0].thinking, final)
check("its first and last events", (kinds[0], kinds[-1]) == ("message_start", "message_stop"), kinds)
turns = sum_up + [{"role": "assistant", "content": [block.model_dump() for block in thinking.content]}, {"role": "user", "content": "Sure?"}]
check("a thought may come back in the history", client.messages.create(model="bluelm", max_tokens=16, messages=turns).content is not None)

system = client.messages.create(model="bluelm", max_tokens=16, system="Answer in one word.", messages=ask)
check("a system text", system.type == "message", system)
count = client.messages.count_tokens(model="bluelm", messages=ask)
check("counted tokens are those of the answer", count.input_tokens == whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0), count)

refused("tools", anthropic.BadRequestError, lambda: client.messages.create(model="bluelm", max_tokens=4, messages=ask, tools=[{"name": "f", "input_schema": {"type": "object"}}]))
remote = [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://example.org/cat.png"}}]}]
refused("a picture from the network", anthropic.BadRequestError, lambda: client.messages.create(model="bluelm", max_tokens=4, messages=remote))
print(f"{checks} checks passed")
