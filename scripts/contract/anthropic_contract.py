#!/usr/bin/env python3
"""The contract with Anthropic's own Python client, against a running `bluelm serve`.

    bluelm serve &
    python3 -m venv venv && venv/bin/pip install anthropic
    venv/bin/python scripts/contract/anthropic_contract.py http://127.0.0.1:8080 examples/receipt.png

The model need not be good at calling: what it must not get wrong whatever its weights is checked.
"""

import base64
import json
import sys

import anthropic

from checks import check, passed

base, picture = sys.argv[1].rstrip("/"), sys.argv[2]
client = anthropic.Anthropic(base_url=base, api_key=sys.argv[3] if len(sys.argv) > 3 else "none", max_retries=0)
data = base64.b64encode(open(picture, "rb").read()).decode()
image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
ask = [{"role": "user", "content": [image, {"type": "text", "text": "What is the total?"}]}]
sum_up = [{"role": "user", "content": [image, {"type": "text", "text": "What do all items cost together?"}]}]

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

# Tools.
city = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 10}, "unit": {"enum": ["C", "F"]}}, "required": ["city", "unit"], "additionalProperties": False}
tools = [{"name": "get_weather", "description": "The weather.", "input_schema": city}]
weather = [{"role": "user", "content": "What is the weather in Paris?"}]
named = {"type": "tool", "name": "get_weather"}
called = client.messages.create(model="bluelm", max_tokens=200, messages=weather, tools=tools, tool_choice=named)
use = called.content[-1]
check("a named tool is used", called.stop_reason == "tool_use" and use.type == "tool_use" and use.name == "get_weather", called)
check("with an input by its schema", len(use.input["city"]) <= 10 and use.input["unit"] in "CF" and len(called.content) == 1, use)
with client.messages.stream(model="bluelm", max_tokens=200, messages=weather, tools=tools, tool_choice=named) as stream:
    kinds = [event.type for event in stream]
    final = stream.get_final_message()
check("a streamed use is the same", final.content[-1].input == use.input and final.stop_reason == "tool_use", final)
check("its input comes in pieces", "input_json" in kinds, kinds)
any_ = client.messages.create(model="bluelm", max_tokens=400, messages=weather, tools=tools, tool_choice={"type": "any", "disable_parallel_tool_use": True})
check("any tool is used, once", [block.type for block in any_.content] == ["tool_use"], any_)
auto = client.messages.create(model="bluelm", max_tokens=60, messages=weather, tools=tools)
check("a tool that may be used", auto.type == "message", auto)
result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "sunny"}, image]}
turns = weather + [{"role": "assistant", "content": [block.model_dump() for block in called.content]}, {"role": "user", "content": [result, {"type": "text", "text": "So?"}]}]
after = client.messages.create(model="bluelm", max_tokens=30, messages=turns, tools=tools, tool_choice={"type": "none"})
check("a result with a picture is read", after.usage.input_tokens + (after.usage.cache_read_input_tokens or 0) > 100, after)
thinking = client.messages.create(model="bluelm", max_tokens=2048, messages=weather, tools=tools, thinking={"type": "enabled", "budget_tokens": 1024})
check("thinking and tools together", thinking.usage.output_tokens > 0, thinking)

# What an answer must look like.
formed = client.messages.create(model="bluelm", max_tokens=200, messages=ask, extra_body={"output_config": {"format": {"type": "json_schema", "schema": city}}})
check("an answer by a schema", set(json.loads(formed.content[-1].text)) == {"city", "unit"}, formed)
refused("a schema that is not supported", anthropic.BadRequestError, lambda: client.messages.create(model="bluelm", max_tokens=4, messages=ask, extra_body={"output_config": {"format": {"type": "json_schema", "schema": {"uniqueItems": True}}}}))
refused("a tool of the provider's", anthropic.BadRequestError, lambda: client.messages.create(model="bluelm", max_tokens=4, messages=ask, tools=[{"type": "bash_20250124", "name": "bash"}]))
remote = [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://example.org/cat.png"}}]}]
refused("a picture from the network", anthropic.BadRequestError, lambda: client.messages.create(model="bluelm", max_tokens=4, messages=remote))
passed()
