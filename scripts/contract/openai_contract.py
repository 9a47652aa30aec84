#!/usr/bin/env python3
"""The contract with OpenAI's own Python client, against a running `bluelm serve`.

    bluelm serve &
    python3 -m venv venv && venv/bin/pip install openai
    venv/bin/python scripts/contract/openai_contract.py http://127.0.0.1:8080 examples/receipt.png

Not in it, because the server refuses them so far: n > 1, stored responses. The model need not be good at calling: what it
must not get wrong whatever its weights is checked.
"""

import base64
import json
import sys

import openai
from pydantic import BaseModel, Field

from checks import check, passed

base, picture = sys.argv[1].rstrip("/"), sys.argv[2]
client = openai.OpenAI(base_url=base + "/v1", api_key=sys.argv[3] if len(sys.argv) > 3 else "none", max_retries=0)
url = "data:image/png;base64," + base64.b64encode(open(picture, "rb").read()).decode()
model = client.models.list().data[0].id
ask = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is the total?"}]}]

def refused(what, kind, call, **expected):
    try:
        call()
    except kind as error:
        for key, value in expected.items():
            check(f"{what}: {key}", getattr(error, key) == value, (key, getattr(error, key)))
        return
    check(what, False, "no error")


# Models.
check("a model by its name", client.models.retrieve(model).id == model)
refused("a model that is not there", openai.NotFoundError, lambda: client.models.retrieve("no/such"), code="model_not_found")

# Vision, at once and as a stream.
whole = client.chat.completions.create(model=model, messages=ask, max_tokens=64)
text = whole.choices[0].message.content
check("an answer about a picture", bool(text), whole)
check("its end", whole.choices[0].finish_reason == "stop", whole)
usage = whole.usage
check("its usage adds up", usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage)
check("image tokens are told", usage.prompt_tokens_details.image_tokens > 0, usage)
check("a request id", bool(whole._request_id))

stream = list(client.chat.completions.create(model=model, messages=ask, max_tokens=64, stream=True, stream_options={"include_usage": True}))
said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
check("a stream says the same", said == text, (said, text))
check("the last chunk has the usage and no choice", stream[-1].usage.completion_tokens == usage.completion_tokens and not stream[-1].choices, stream[-1])
check("only the first chunk has a role", [bool(chunk.choices[0].delta.role) for chunk in stream if chunk.choices].count(True) == 1)
with client.chat.completions.stream(model=model, messages=ask, max_tokens=64) as helper:
    for _ in helper:
        pass
    check("the stream helper puts it together", helper.get_final_completion().choices[0].message.content == text)

# Settings.
cut = client.chat.completions.create(model=model, messages=ask, max_completion_tokens=2)
check("a cut answer", cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens == 2, cut)
warm = [client.chat.completions.create(model=model, messages=ask, max_tokens=16, temperature=1.5, seed=7).choices[0].message.content for _ in range(2)]
check("the same seed, the same answer", warm[0] == warm[1], warm)
stopped = client.chat.completions.create(model=model, messages=ask, max_tokens=64, stop=[text[1:3]])
check("a stop string ends it before", stopped.choices[0].message.content == text[: text.index(text[1:3])], stopped)
logprobs = client.chat.completions.create(model=model, messages=ask, max_tokens=4, logprobs=True, top_logprobs=2).choices[0].logprobs
check("log-probabilities", len(logprobs.content) >= 1 and len(logprobs.content[0].top_logprobs) == 2, logprobs)
check("the chosen token is the likeliest", logprobs.content[0].token == logprobs.content[0].top_logprobs[0].token, logprobs)

# Thinking.
sum_up = [{"role": "user", "content": [ask[0]["content"][0], {"type": "text", "text": "What do all items cost together?"}]}]
thinking = client.chat.completions.create(model=model, messages=sum_up, max_tokens=256, reasoning_effort="high")
message = thinking.choices[0].message
check("a thought in both fields", message.reasoning_content and message.reasoning_content == message.reasoning, message)
check("a thought is counted", thinking.usage.completion_tokens_details.reasoning_tokens > 0, thinking.usage)
pieces = client.chat.completions.create(model=model, messages=sum_up, max_tokens=256, reasoning_effort="high", stream=True)
check("a thought is streamed", "".join(getattr(c.choices[0].delta, "reasoning_content", None) or "" for c in pieces if c.choices) == message.reasoning_content)
budget = client.chat.completions.create(model=model, messages=sum_up, max_tokens=256, extra_body={"thinking_budget": 4})
check("a budget of thought is kept", budget.usage.completion_tokens_details.reasoning_tokens <= 4, budget.usage)
none = client.chat.completions.create(model=model, messages=sum_up, max_tokens=256, reasoning_effort="none")
check("no thought when none is wanted", none.usage.completion_tokens_details.reasoning_tokens == 0, none.usage)

# Several turns.
turns = ask + [{"role": "assistant", "content": text}, {"role": "user", "content": "Which shop is it?"}]
check("a second turn", client.chat.completions.create(model=model, messages=turns, max_tokens=32).choices[0].message.content is not None)

# Responses.
input_ = [{"role": "user", "content": [{"type": "input_image", "image_url": url, "detail": "auto"}, {"type": "input_text", "text": "What is the total?"}]}]
response = client.responses.create(model=model, input=input_, max_output_tokens=64)
check("a response says the same", response.output_text == text, (response.output_text, text))
check("its status", response.status == "completed", response.status)
check("reasoning tokens are there", response.usage.output_tokens_details.reasoning_tokens == 0, response.usage)
with client.responses.stream(model=model, input=input_, max_output_tokens=64) as events:
    kinds = [event.type for event in events]
    check("a streamed response says the same", events.get_final_response().output_text == text)
check("its first and last events", (kinds[0], kinds[-1]) == ("response.created", "response.completed"), kinds)
think = client.responses.create(model=model, input=sum_up[0]["content"][1]["text"], reasoning={"effort": "low"}, max_output_tokens=64)
check("a response without a picture", think.status in ("completed", "incomplete"), think)
refused("a stored response", openai.BadRequestError, lambda: client.responses.create(model=model, input="hi", previous_response_id="resp_1"), param="previous_response_id")

# What an answer must look like.
class Receipt(BaseModel):
    shop: str = Field(max_length=20)
    total: int = Field(ge=0, le=100000)
    paid: bool


schema = {"type": "json_schema", "json_schema": {"name": "receipt", "strict": True, "schema": Receipt.model_json_schema() | {"additionalProperties": False}}}
formed = client.chat.completions.create(model=model, messages=ask, max_tokens=200, response_format=schema)
check("an answer by a schema ends by itself", formed.choices[0].finish_reason == "stop", formed)
receipt = Receipt.model_validate_json(formed.choices[0].message.content)
check("it holds the schema", list(json.loads(formed.choices[0].message.content)) == ["shop", "total", "paid"], receipt)
stream = client.chat.completions.create(model=model, messages=ask, max_tokens=200, response_format=schema, stream=True)
said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
check("a stream of it says the same", said == formed.choices[0].message.content, said)
parsed = client.chat.completions.parse(model=model, messages=ask, max_tokens=200, response_format=Receipt)
check("the parse helper gives the object", parsed.choices[0].message.parsed == receipt, parsed)
thought = client.chat.completions.create(model=model, messages=sum_up, max_tokens=300, response_format=schema, extra_body={"thinking_budget": 8})
check("a budget is kept with a schema", 0 < thought.usage.completion_tokens_details.reasoning_tokens <= 8, thought.usage)
Receipt.model_validate_json(thought.choices[0].message.content)
plain = client.chat.completions.create(model=model, messages=ask, max_tokens=100, response_format={"type": "json_object"})
check("plain JSON is an object", plain.choices[0].finish_reason == "length" or isinstance(json.loads(plain.choices[0].message.content), dict), plain)
response = client.responses.parse(model=model, input=input_, max_output_tokens=200, text_format=Receipt)
check("a response is parsed by its schema", response.output_parsed == receipt, response)

# Tools.
city = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 10}, "unit": {"enum": ["C", "F"]}}, "required": ["city", "unit"], "additionalProperties": False}
tools = [{"type": "function", "function": {"name": "get_weather", "description": "The weather.", "parameters": city}}, {"type": "function", "function": {"name": "get_time"}}]
weather = [{"role": "user", "content": "What is the weather in Paris?"}]
named = {"type": "function", "function": {"name": "get_weather"}}


def valid(call):
    arguments = json.loads(call.function.arguments)
    return call.id and (call.function.name == "get_time" and arguments == {} or len(arguments["city"]) <= 10 and arguments["unit"] in "CF")


called = client.chat.completions.create(model=model, messages=weather, max_tokens=200, tools=tools, tool_choice=named)
check("a named function is called", called.choices[0].finish_reason == "tool_calls", called)
call = called.choices[0].message.tool_calls[0]
check("with arguments by its schema", valid(call) and call.function.name == "get_weather", call)
check("and no text", called.choices[0].message.content is None and len(called.choices[0].message.tool_calls) == 1, called)
with client.chat.completions.stream(model=model, messages=weather, max_tokens=200, tools=tools, tool_choice=named) as helper:
    for _ in helper:
        pass
    final = helper.get_final_completion().choices[0]
check("a streamed call is the same", final.message.tool_calls[0].function.arguments == call.function.arguments and final.finish_reason == "tool_calls", final)
required = client.chat.completions.create(model=model, messages=weather, max_tokens=400, tools=tools, tool_choice="required", parallel_tool_calls=False)
check("a required call is made, once", len(required.choices[0].message.tool_calls) == 1 and valid(required.choices[0].message.tool_calls[0]), required)
auto = client.chat.completions.create(model=model, messages=weather, max_tokens=100, tools=tools)
check("a call that may be is valid, if it is", all(valid(one) for one in auto.choices[0].message.tool_calls or []), auto)
never = client.chat.completions.create(model=model, messages=weather, max_tokens=30, tools=tools, tool_choice="none")
check("no call where none may be", never.choices[0].message.tool_calls is None, never)
back = weather + [called.choices[0].message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
after = client.chat.completions.create(model=model, messages=back, max_tokens=30, tools=tools, tool_choice="none")
check("a result is read", after.usage.prompt_tokens > never.usage.prompt_tokens and after.choices[0].message.content is not None, after)

flat = [{"type": "function", "name": "get_weather", "parameters": city, "strict": True}]
response = client.responses.create(model=model, input=weather, tools=flat, tool_choice="required", parallel_tool_calls=False, max_output_tokens=200)
item = response.output[-1]
check("a response calls", item.type == "function_call" and item.name == "get_weather" and json.loads(item.arguments)["unit"] in "CF", response)
with client.responses.stream(model=model, input=weather, tools=flat, tool_choice="required", parallel_tool_calls=False, max_output_tokens=200) as events:
    kinds = [event.type for event in events]
    final = events.get_final_response().output[-1]
check("a streamed response calls the same", final.arguments == item.arguments, final)
check("its arguments come in events", "response.function_call_arguments.delta" in kinds and "response.function_call_arguments.done" in kinds, kinds)
history = weather + [item.model_dump(exclude_none=True), {"type": "function_call_output", "call_id": item.call_id, "output": "sunny"}]
after = client.responses.create(model=model, input=history, tools=flat, tool_choice="none", max_output_tokens=30)
check("a response reads a result", after.output[-1].type == "message", after)

# What is refused.
def create(**more):
    return lambda: client.chat.completions.create(**{"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, **more})


refused("a tool of the provider's", openai.BadRequestError, lambda: client.responses.create(model=model, input="hi", tools=[{"type": "web_search"}]), param="tools[0].type")
refused("a schema that is not supported", openai.BadRequestError, create(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array", "uniqueItems": True}}}), param="response_format.json_schema.schema")
refused("a choice that there is not", openai.BadRequestError, create(tools=[{"type": "function", "function": {"name": "f"}}], tool_choice={"type": "function", "function": {"name": "g"}}), param="tool_choice")
refused("several answers", openai.BadRequestError, create(n=2), param="n")
refused("a temperature below zero", openai.BadRequestError, create(temperature=-1), param="temperature")
remote = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}]}]
refused("a picture from the network", openai.BadRequestError, create(messages=remote), code="invalid_image_url")
refused("a text that is too long", openai.BadRequestError, create(messages=[{"role": "user", "content": "word " * 100_000}]), code="context_length_exceeded")
passed()
