//! Pictures of requests, and those handed over before: `/v1/images`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use engine::{Detail, Policy, Vision};
use serde_json::{Value as Json, json};
use server::app;

use crate::fake::{FakeChat, answer_of, call, config, data_url, get, png, without_ids};

const CHAT: &str = "/v1/chat/completions";

fn raw(bytes: Vec<u8>) -> Request<Body> {
    let builder = Request::post("/v1/images").header("host", "localhost:8080");
    builder
        .header("content-type", "image/png")
        .body(Body::from(bytes))
        .unwrap()
}

fn about(part: Json) -> Json {
    json!({"messages": [{"role": "user", "content": [part, {"type": "text", "text": "What?"}]}]})
}

fn delete(path: &str) -> Request<Body> {
    Request::delete(path)
        .header("host", "localhost")
        .body(Body::empty())
        .unwrap()
}

#[test]
fn a_picture_is_handed_over_asked_about_twice_and_removed() {
    let chat = FakeChat::new(9);
    let router = app(chat.clone(), config());
    let (response, text) = call(&router, raw(png(20, 5)));
    assert_eq!(response.status(), StatusCode::OK, "{text}");
    insta::assert_snapshot!(without_ids(&text), @r#"{"id":"img_ID","object":"image","expires_in_s":1800,"encoding":"done","tiles_done":3,"width":20,"height":5,"grid":[2,1],"tiles":2,"tokens":8,"tile_side":8,"canvas":[16,8],"resized":[16,5],"offset":[0,0],"thumbnail":false}"#);
    let id = serde_json::from_str::<Json>(&text).unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for part in [
        json!({"type": "image_url", "image_url": {"url": id}}),
        json!({"type": "image_url", "image_url": id}),
        json!({"type": "input_image", "file_id": id}),
        json!({"type": "image", "source": {"type": "file", "file_id": id}}),
    ] {
        let (status, json) = answer_of(&router, CHAT, &about(part));
        assert_eq!(status, StatusCode::OK, "{json}");
        assert_eq!(json["usage"]["prompt_tokens_details"]["image_tokens"], 8);
        assert_eq!(chat.last().images[0].width, 20);
    }
    let path = format!("/v1/images/{id}");
    assert_eq!(call(&router, get(&path)).1, text);
    assert_eq!(call(&router, delete(&path)).0.status(), StatusCode::OK);
    assert_eq!(
        call(&router, delete(&path)).0.status(),
        StatusCode::NOT_FOUND
    );
    let (status, json) = answer_of(
        &router,
        CHAT,
        &about(json!({"type": "input_image", "file_id": id})),
    );
    assert_eq!(
        (status, &json["error"]["code"]),
        (StatusCode::NOT_FOUND, &json!("image_not_found"))
    );
}

#[test]
fn encoding_begins_when_a_picture_is_handed_over_and_stops_when_it_is_removed() {
    let chat = FakeChat::new(9);
    let router = app(chat.clone(), config());
    let (_, json) = answer_of(&router, "/v1/images", &json!({"image": data_url(3, 3)}));
    assert_eq!(json["encoding"], "done");
    assert_eq!(chat.ahead.load(Ordering::SeqCst), 1);
    let path = format!("/v1/images/{}", json["id"].as_str().unwrap());
    call(&router, delete(&path));
    assert_eq!(chat.ahead.load(Ordering::SeqCst), 0);
    let (_, json) = answer_of(&router, "/v1/images", &json!({"image": data_url(3, 1)}));
    assert_eq!(json["encoding"], "on_request");
}

#[test]
fn a_picture_comes_as_json_too_and_dies_when_its_time_has_come() {
    let mut config = config();
    config.limits.picture_life = Duration::from_millis(200);
    let router = app(FakeChat::new(9), config);
    let (status, json) = answer_of(&router, "/v1/images", &json!({"image": data_url(3, 3)}));
    assert_eq!(status, StatusCode::OK, "{json}");
    let path = format!("/v1/images/{}", json["id"].as_str().unwrap());
    assert_eq!(call(&router, get(&path)).0.status(), StatusCode::OK);
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!(call(&router, get(&path)).0.status(), StatusCode::NOT_FOUND);
}

#[test]
fn another_key_does_not_find_a_picture() {
    let mut config = config();
    config.keys = vec!["alpha".into(), "beta".into()];
    let router = app(FakeChat::new(9), config);
    let keyed = |mut request: Request<Body>, key: &str| {
        request
            .headers_mut()
            .insert("x-api-key", key.parse().unwrap());
        request
    };
    let (_, text) = call(&router, keyed(raw(png(3, 3)), "alpha"));
    let path = format!(
        "/v1/images/{}",
        serde_json::from_str::<Json>(&text).unwrap()["id"]
            .as_str()
            .unwrap()
    );
    assert_eq!(
        call(&router, keyed(get(&path), "beta")).0.status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        call(&router, keyed(delete(&path), "beta")).0.status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        call(&router, keyed(get(&path), "alpha")).0.status(),
        StatusCode::OK
    );
}

#[test]
fn how_closely_to_look_reaches_the_engine_in_every_api() {
    let chat = FakeChat::new(9);
    let router = app(chat.clone(), config());
    for (name, detail) in [
        ("low", Detail::Low),
        ("auto", Detail::Auto),
        ("high", Detail::High),
        ("original", Detail::High),
    ] {
        let openai =
            json!({"type": "image_url", "image_url": {"url": data_url(24, 10), "detail": name}});
        let responses =
            json!({"type": "input_image", "image_url": data_url(24, 10), "detail": name});
        let data = data_url(24, 10);
        let data = data.split_once(',').unwrap().1;
        let source = json!({"type": "base64", "media_type": "image/png", "data": data});
        let anthropic = json!({"type": "image", "source": source, "detail": name});
        let vision = json!({"max_tiles": 3, "max_tokens": 8, "policy": "refuse"});
        for (path, list, part) in [
            (CHAT, "messages", openai),
            ("/v1/responses", "input", responses),
            ("/v1/messages", "messages", anthropic),
        ] {
            let mut body = json!({"max_tokens": 9, "vision": vision});
            if path == "/v1/responses" {
                body = json!({"vision": vision});
            }
            body[list] = about(part)["messages"].clone();
            let (status, json) = answer_of(&router, path, &body);
            assert_eq!(status, StatusCode::OK, "{path}: {json}");
            let expected = Vision {
                details: vec![detail],
                max_tiles: Some(3),
                max_tokens: Some(8),
                policy: Policy::Refuse,
            };
            assert_eq!(chat.last().vision, expected, "{path} {name}");
            // The picture itself is not touched: the engine cuts it.
            assert_eq!(chat.last().images[0].width, 24);
        }
    }
    let part =
        json!({"type": "image_url", "image_url": {"url": data_url(24, 10), "detail": "blurred"}});
    let (_, json) = answer_of(&router, CHAT, &about(part));
    assert_eq!(json["error"]["param"], "messages[0].content[0].detail");
    let mut body = about(json!({"type": "text", "text": "hi"}));
    body["vision"] = json!({"max_tiles": 0});
    let (_, json) = answer_of(&router, CHAT, &body);
    assert_eq!(json["error"]["param"], "vision.max_tiles");
}

#[test]
fn events_tell_how_far_an_encoding_is() {
    let router = app(FakeChat::new(9), config());
    let id_of = |height| {
        let (_, json) = answer_of(
            &router,
            "/v1/images",
            &json!({"image": data_url(3, height)}),
        );
        json["id"].as_str().unwrap().to_owned()
    };
    let events = |id: &str| call(&router, get(&format!("/v1/images/{id}/events")));
    let (response, text) = events(&id_of(3));
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    insta::assert_snapshot!(without_ids(&text), @r#"
    data: {"encoding":"done","tiles_done":3,"tiles":3,"id":"img_ID","time_ms":0}

    data: [DONE]
    "#);
    // One whose encoding is left to its first question has nothing to wait for.
    let (_, text) = events(&id_of(1));
    assert!(text.contains(r#""encoding":"on_request""#), "{text}");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(events("img_0000").0.status(), StatusCode::NOT_FOUND);
}

#[test]
fn a_conversation_is_read_before_its_question() {
    let chat = FakeChat::new(9);
    let router = app(chat.clone(), config());
    let body =
        json!({"messages": [{"role": "user", "content": "one two three"}], "max_tokens": 50});
    let (status, json) = answer_of(&router, "/v1/sessions/my-chat_1/prefill", &body);
    assert_eq!(status, StatusCode::OK, "{json}");
    insta::assert_snapshot!(json.to_string(), @r#"{"id":"my-chat_1","object":"session.prefill","model":"fake","prompt_tokens":3,"cached_tokens":1,"image_tokens":0,"images":[],"image_ms":2.0,"prefill_ms":3.0}"#);
    // A token is chosen, and nothing computed after it.
    assert_eq!(chat.last().max_tokens, Some(1));
    for id in ["a%20b", "a%2Fb", &"x".repeat(129)] {
        let (_, json) = answer_of(&router, &format!("/v1/sessions/{id}/prefill"), &body);
        assert_eq!(json["error"]["param"], "id", "{json}");
    }
}

#[test]
fn pictures_that_cannot_be_used_have_openais_codes() {
    let mut config = config();
    config.limits.picture_pixels = 1000;
    config.limits.pictures = 2;
    let router = app(FakeChat::new(9), config);
    let base64 = |bytes: &[u8]| {
        use base64::Engine as _;
        format!(
            "data:image/png;base64,{}",
            base64::engine::general_purpose::STANDARD.encode(bytes)
        )
    };
    let whole = png(10, 10);
    for (url, code) in [
        (base64(b"hello"), "invalid_image_format"),
        (base64(&whole[..whole.len() - 20]), "image_parse_error"),
        (base64(&png(100, 100)), "image_too_large"),
        ("data:image/png;base64,???".into(), "invalid_base64_image"),
        ("data:image/png;base64,".into(), "empty_image_file"),
        ("data:image/png,abc".into(), "invalid_image_url"),
        ("data:image/png".into(), "invalid_image_url"),
        ("nonsense".into(), "invalid_image_url"),
        ("https://example.org/cat.png".into(), "invalid_image_url"),
        ("img_0000".into(), "image_not_found"),
    ] {
        let (_, json) = answer_of(
            &router,
            CHAT,
            &about(json!({"type": "image_url", "image_url": {"url": url}})),
        );
        assert_eq!(json["error"]["code"], code, "{json}");
        assert!(
            json["error"]["param"]
                .as_str()
                .unwrap()
                .starts_with("messages[0].content[0]"),
            "{json}"
        );
    }
    let parts: Vec<Json> = (0..3)
        .map(|_| json!({"type": "image_url", "image_url": {"url": data_url(2, 2)}}))
        .collect();
    let (_, json) = answer_of(
        &router,
        CHAT,
        &json!({"messages": [{"role": "user", "content": parts}]}),
    );
    assert_eq!(json["error"]["code"], "too_many_images");
    let (_, json) = answer_of(
        &router,
        CHAT,
        &json!({"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": data_url(2, 2)}}]}]}),
    );
    assert_eq!(json["error"]["param"], "messages[0].content[0]");
}
