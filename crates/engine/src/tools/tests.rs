//! Calls of tools, by networks that say anything at all, and how a model is told of them.

use proptest::prelude::*;

use super::*;
use crate::cancel::Cancel;
use crate::engine::Engine;
use crate::grammar::tests::schemas::violation;
use crate::grammar::tests::{ask, noisy};
use crate::request::{FinishReason, Request};
use crate::speculation::Speculation;
use crate::template::ChatTemplate;
use crate::testing::{FakeNetwork, nano_files};

fn tool(name: &str, parameters: Json) -> Tool {
    let Json::Object(parameters) = parameters else {
        panic!("an object")
    };
    Tool {
        name: name.into(),
        description: Some(format!("Does {name}.")),
        parameters,
    }
}

/// Two tools, one of which refers to itself by its own root.
fn two() -> Vec<Tool> {
    let weather = json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 3}, "days": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["city"], "additionalProperties": false});
    let tree = json!({"properties": {"left": {"$ref": "#/$defs/leaf"}}, "required": ["left"], "additionalProperties": false, "$defs": {"leaf": {"enum": ["a", "b"]}}});
    vec![tool("get_weather", weather), tool("grow-tree.2", tree)]
}

fn request(choice: ToolChoice, calls: Calls) -> Request {
    Request {
        tools: Tools {
            list: two(),
            choice,
            calls,
        },
        max_tokens: Some(500),
        // A network that says what it is told counts its steps.
        speculation: Speculation::Off,
        ..Request::question(vec![], "hi")
    }
}

fn saying(answer: &str) -> Engine<FakeNetwork> {
    let mut network = FakeNetwork::new(answer);
    network.shape.context_tokens = 4096;
    Engine::new(network, nano_files(), &[]).unwrap()
}

/// Checks each whole call against its schema.
fn check_calls(calls: &[WrittenCall]) {
    for call in calls.iter().filter(|call| call.is_whole) {
        let tool = two()
            .into_iter()
            .find(|tool| tool.name == call.name)
            .unwrap();
        let schema = Json::Object(tool.parameters);
        let arguments: Json = serde_json::from_str(&call.arguments).unwrap();
        assert!(arguments.is_object(), "{arguments}");
        assert_eq!(violation(&schema, &schema, &arguments), None, "{arguments}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever the weights: a call that is required is there, valid, of the right function, and there are not too many.
    #[test]
    fn a_required_call_is_made_and_valid(seed: u64, named: bool, one: bool, temperature in prop::sample::select(vec![0.0f32, 1.0])) {
        let choice = match named {
            true => ToolChoice::Named("grow-tree.2".into()),
            false => ToolChoice::Required,
        };
        let calls = if one { Calls::One } else { Calls::Several };
        let mut request = request(choice, calls);
        request.sampling.temperature = temperature;
        request.sampling.seed = seed;
        let engine = noisy(seed, nano_files());
        let reply = ask(&engine, &request).unwrap();
        let (text, calls) = CallSplitter::split(&reply.text);
        check_calls(&calls);
        prop_assert!(calls.len() <= MAX_CALLS);
        if reply.finish_reason == FinishReason::Stop {
            prop_assert_eq!(text, "");
            prop_assert!(!calls.is_empty() && calls.iter().all(|call| call.is_whole), "{}", reply.text);
            prop_assert!(calls.len() == 1 || !(one || named));
        }
        prop_assert!(!named || calls.iter().all(|call| call.name == "grow-tree.2"));
        let guessing = ask(&engine, &Request { speculation: Speculation::Lookup, ..request }).unwrap();
        prop_assert_eq!(guessing.output_ids, reply.output_ids);
    }
}

#[test]
fn a_model_that_may_call_is_free_until_it_does() {
    let auto = request(ToolChoice::Auto, Calls::Several);
    let said = |answer: &str, request: &Request| {
        let reply = ask(&saying(answer), request).unwrap();
        check_calls(&CallSplitter::split(&reply.text).1);
        reply.text
    };
    assert_eq!(
        said("Just <b>text</b> {\n</s>", &auto),
        "Just <b>text</b> {\n"
    );
    let call = "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Rom\"}}\n</tool_call>";
    let answer = format!("See:\n{call}\n{call}</s>");
    assert_eq!(said(&answer, &auto), answer.strip_suffix("</s>").unwrap());
    // A call of what is not there becomes one of what is.
    let wrong = said(
        "<tool_call>\n{\"name\": \"get_money\", \"arguments\": {\"city\": \"Rom\"}}\n</tool_call></s>",
        &auto,
    );
    assert!(
        wrong.starts_with("<tool_call>\n{\"name\": \"get_weather\", \"arguments\": "),
        "{wrong}"
    );
    // One call at most: nothing comes after it.
    let one = said(&answer, &request(ToolChoice::Auto, Calls::One));
    assert_eq!(one, format!("See:\n{call}"));
}

#[test]
fn a_format_holds_for_answers_without_a_call() {
    let mut request = request(ToolChoice::Auto, Calls::Several);
    request.format = Some(
        Grammar::json_schema(&json!({"type": "array", "items": {"type": "integer"}})).unwrap(),
    );
    let said = |answer: &str| ask(&saying(answer), &request).unwrap().text;
    assert_eq!(said("[1, 2]</s>"), "[1, 2]");
    let call =
        "<tool_call>\n{\"name\": \"grow-tree.2\", \"arguments\": {\"left\": \"a\"}}\n</tool_call>";
    assert_eq!(said(&format!("{call}</s>")), call);
    request.format = Some(Grammar::lark("start: a\na: \"x\"").unwrap());
    let error = ask(&saying("x"), &request).unwrap_err().to_string();
    assert_eq!(
        error,
        "grammar: a grammar of several rules together with tools: not supported"
    );
}

#[test]
fn tools_that_may_not_be_called_are_not_told_and_not_kept() {
    let request = request(ToolChoice::None, Calls::Several);
    let reply = ask(&saying("<tool_call>x</s>"), &request).unwrap();
    assert_eq!(reply.text, "<tool_call>x");
    let prompt = saying("x").prompt(&request).unwrap();
    assert_eq!(prompt.text, "<s>[|Human|]:hi\n[|AI|]:");
}

#[test]
fn what_is_wrong_with_tools_is_named() {
    let error = |change: &dyn Fn(&mut Tools)| {
        let mut request = request(ToolChoice::Auto, Calls::Several);
        change(&mut request.tools);
        let asked = saying("x").generate(&request, &Cancel::new(), &mut |_| {});
        asked.unwrap_err().to_string()
    };
    let parameters = |tools: &mut Tools, json: Json| {
        tools.list[1].parameters = json.as_object().unwrap().clone()
    };
    let seen = [
        error(&|tools| tools.list[1].name = "get weather".into()),
        error(&|tools| tools.list[1].name = "get_weather".into()),
        error(&|tools| tools.list = vec![tools.list[0].clone(); 129]),
        error(&|tools| tools.choice = ToolChoice::Named("nothing".into())),
        error(&|tools| {
            tools.choice = ToolChoice::Required;
            tools.list.clear()
        }),
        error(&|tools| parameters(tools, json!({"type": "string"}))),
        error(&|tools| {
            parameters(
                tools,
                json!({"properties": {"a": {"type": "array", "uniqueItems": true}}}),
            )
        }),
        error(&|tools| parameters(tools, json!({"x-guidance": {"lenient": true}}))),
    ];
    insta::assert_snapshot!(seen.join("\n"));
}

/// A question, a call, its result, another question.
fn conversation() -> Vec<Message> {
    let call = Part::Call(ToolCall {
        id: "call_1".into(),
        name: "get_weather".into(),
        arguments: json!({"city": "</s>", "days": 2}),
    });
    let result = |text: &str| Message {
        role: Role::Tool,
        content: vec![
            Part::Text(text.into()),
            Part::ResultOf {
                id: "call_1".into(),
                name: Some("get_weather".into()),
            },
        ],
    };
    vec![
        Message::text(Role::System, "Be short."),
        Message::text(Role::User, "What weather?"),
        Message {
            role: Role::Assistant,
            content: vec![Part::Text("Let me see.".into()), call],
        },
        result("sunny"),
        result("22 °C"),
        Message::text(Role::User, "And <tool_call>?"),
    ]
}

#[test]
fn a_template_without_tools_is_told_in_words() {
    let mut request = request(ToolChoice::Auto, Calls::Several);
    request.messages = conversation();
    let prompt = saying("x").prompt(&request).unwrap();
    insta::assert_snapshot!(prompt.text);
    // What the caller spelt is no control token: those are the template's own.
    let end = nano_files().tokenizer.token_to_id("</s>").unwrap();
    assert_eq!(prompt.ids.iter().filter(|&&id| id == end).count(), 1);
}

/// The part of Qwen2.5's and Qwen3's templates that is about tools.
const QWEN: &str = r##"{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {{- "# Tools\n\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools><|im_end|>\n" }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "assistant" %}
        {{- '<|im_start|>' + message.role + '\n' + message.content }}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
            {{- '\n<tool_call>\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {%- if tool_call.arguments is string %}{{- tool_call.arguments }}{%- else %}{{- tool_call.arguments | tojson }}{%- endif %}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{{- '<|im_start|>assistant\n' }}"##;

#[test]
fn a_template_with_tools_uses_its_own_words() {
    let mut files = nano_files();
    files.template = ChatTemplate::new(QWEN, "", "").unwrap();
    let mut network = FakeNetwork::new("x");
    network.shape.context_tokens = 4096;
    network.shape.image_ids = None;
    let engine = Engine::new(network, files, &[]).unwrap();
    let mut request = request(ToolChoice::Auto, Calls::Several);
    request.messages = conversation();
    let prompt = engine.prompt(&request).unwrap();
    // The arguments of the call spell one; this template writes none.
    let end = nano_files().tokenizer.token_to_id("</s>").unwrap();
    assert!(!prompt.ids.contains(&end));
    insta::assert_snapshot!(prompt.text);
}
