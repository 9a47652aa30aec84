//! Routes about the server: models, health, metrics, tokens, costs, and the page.

use axum::http::StatusCode;
use serde_json::{Value as Json, json};
use server::app;

use crate::fake::{FakeChat, answer, answer_of, call, config, data_url, get};

#[test]
fn models_are_listed_and_shown() {
    let router = app(FakeChat::new(9), config());
    let (response, text) = call(&router, get("/v1/models"));
    assert_eq!(response.status(), StatusCode::OK);
    insta::assert_snapshot!(text, @r#"{"object":"list","data":[{"id":"fake","object":"model","created":1700000000,"owned_by":"bluelm","architecture":{"input_modalities":["text","image"],"output_modalities":["text"]},"context_length":100,"cache_bytes_per_token":10,"thinking":true}]}"#);
    assert_eq!(
        call(&router, get("/v1/models/fake")).0.status(),
        StatusCode::OK
    );
    let (response, text) = call(&router, get("/v1/models/somebody/else"));
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert!(text.contains("\"code\":\"model_not_found\""), "{text}");
}

#[test]
fn health_is_known_and_other_routes_are_404_as_json() {
    let router = app(FakeChat::new(9), config());
    let (response, text) = call(&router, get("/health"));
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text, r#"{"status":"ok","waiting":0,"running":0}"#);
    let (response, text) = call(&router, get("/v2/everything"));
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert!(text.starts_with("{\"error\":"), "{text}");
    let (response, text) = call(&router, get("/v1/chat/completions"));
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(text.starts_with("{\"error\":"), "{text}");
}

#[test]
fn metrics_count_what_was_done() {
    let router = app(FakeChat::new(9), config());
    for _ in 0..2 {
        answer_of(
            &router,
            "/v1/chat/completions",
            &json!({"think": true, "messages": [{"role": "user", "content": "one two"}]}),
        );
    }
    answer_of(&router, "/v1/responses", &json!({"input": 5}));
    let (response, text) = call(&router, get("/metrics"));
    assert!(
        response.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain")
    );
    for line in [
        "bluelm_http_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 2",
        "bluelm_http_requests_total{route=\"/v1/responses\",status=\"400\"} 1",
        "bluelm_prompt_tokens_total 4",
        "bluelm_completion_tokens_total 14",
        "bluelm_reasoning_tokens_total 6",
        "bluelm_answers_total 2",
        "bluelm_abandoned_total 0",
        "bluelm_answer_seconds_count 2",
        "bluelm_answer_seconds_bucket{le=\"+Inf\"} 2",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
}

#[test]
fn texts_become_tokens_and_back() {
    let (_, json) = answer("/tokenize", &json!({"content": "ab"}));
    assert_eq!(json, json!({"tokens": [97, 98]}));
    let (_, json) = answer("/tokenize", &json!({"content": "a", "with_pieces": true}));
    assert_eq!(json, json!({"tokens": [{"id": 97, "piece": "a"}]}));
    let (_, json) = answer("/detokenize", &json!({"tokens": [97, 98]}));
    assert_eq!(json, json!({"content": "ab"}));
    for wrong in [
        json!({}),
        json!({"tokens": [-1]}),
        json!({"tokens": [4_294_967_296u64]}),
    ] {
        assert_eq!(
            answer("/detokenize", &wrong).0,
            StatusCode::BAD_REQUEST,
            "{wrong}"
        );
    }
}

#[test]
fn costs_are_told_before_running() {
    let chat = FakeChat::new(9);
    let content = json!([{"type": "image_url", "image_url": {"url": data_url(9, 5)}}, {"type": "text", "text": "what is this"}]);
    let body = json!({"messages": [{"role": "user", "content": content}]});
    let (status, json) = answer_of(&app(chat.clone(), config()), "/v1/explain", &body);
    assert_eq!(status, StatusCode::OK, "{json}");
    assert!(chat.asked.lock().unwrap().is_empty());
    let number = |key: &str| json[key].as_u64().unwrap();
    assert_eq!(
        (
            number("prompt_tokens"),
            number("image_tokens"),
            number("left_tokens"),
            number("cache_bytes")
        ),
        (11, 8, 89, 110)
    );
    assert_eq!(json["images"][0]["grid"], json!([2, 1]));
    assert_eq!(json["images"][0]["resized"], json!([9, 5]));
}

#[test]
fn the_page_loads_what_it_names_and_nothing_from_elsewhere() {
    let router = app(FakeChat::new(9), config());
    let (response, page) = call(&router, get("/"));
    assert_eq!(
        response.headers()["content-type"],
        "text/html; charset=utf-8"
    );
    let policy = response.headers()["content-security-policy"]
        .to_str()
        .unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"),
        "{policy}"
    );
    let mut names: Vec<String> = vec!["main.js".into(), "style.css".into()];
    let mut next = 0;
    while next < names.len() {
        let (response, text) = call(&router, get(&format!("/assets/{}", names[next])));
        assert_eq!(response.status(), StatusCode::OK, "{}", names[next]);
        for part in text.split("from \"./").skip(1) {
            let name = part.split('"').next().unwrap().to_owned();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        assert!(
            !text.contains("innerHTML") && !text.contains("insertAdjacentHTML"),
            "{}",
            names[next]
        );
        next += 1;
    }
    assert_eq!(names.len(), 7, "{names:?}");
    assert!(!page.contains("//") || !page.contains("http"), "{page}");
    assert_eq!(
        call(&router, get("/assets/../Cargo.toml")).0.status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        call(&router, get("/assets/nothing.js")).0.status(),
        StatusCode::NOT_FOUND
    );
}

#[test]
fn a_body_that_is_no_object_is_refused() {
    for body in [json!([]), json!("x"), Json::Null] {
        let (status, json) = answer("/v1/chat/completions", &body);
        assert_eq!(
            (status, &json["error"]["code"]),
            (StatusCode::BAD_REQUEST, &json!("invalid_json"))
        );
    }
}
