//! What attackers try, each refused.

use std::path::Path;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::{Value as Json, json};
use server::{Config, app};

use crate::fake::{FakeChat, answer_of, call, config, data_url, get, png, post};

const CHAT: &str = "/v1/chat/completions";

fn picture(url: &str) -> Json {
    json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]})
}

/// The code with which a picture at this address is refused, and that nothing was asked.
fn refused(config: Config, url: &str) -> String {
    let chat = FakeChat::new(9);
    let (status, json) = answer_of(&app(chat.clone(), config), CHAT, &picture(url));
    assert_eq!(status, StatusCode::BAD_REQUEST, "{url}: {json}");
    assert!(chat.asked.lock().unwrap().is_empty());
    json["error"]["code"].as_str().unwrap().to_owned()
}

#[test]
fn no_address_is_ever_fetched() {
    for url in [
        "http://127.0.0.1:8080/v1/models",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/x.png",
        "http://[::ffff:127.0.0.1]/x.png",
        "https://rebound.example/x.png",
        "HTTP://EXAMPLE.ORG/x.png",
        "ftp://example.org/x.png",
        "gopher://example.org/",
    ] {
        assert_eq!(refused(config(), url), "invalid_image_url", "{url}");
    }
}

/// A folder with a picture, beside a picture that nobody may see and a link to it.
fn folders() -> (tempfile::TempDir, Config) {
    let folder = tempfile::tempdir().unwrap();
    let media = folder.path().join("media");
    std::fs::create_dir_all(media.join("deep")).unwrap();
    for place in ["media/good.png", "media/deep/good.png", "secret.png"] {
        std::fs::write(folder.path().join(place), png(3, 3)).unwrap();
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(folder.path().join("secret.png"), media.join("link.png")).unwrap();
    let mut config = config();
    config.media = Some(media);
    (folder, config)
}

#[test]
fn files_are_read_below_the_media_folder_and_nowhere_else() {
    let (folder, config) = folders();
    let router = app(FakeChat::new(9), config.clone());
    for good in [
        "file://good.png",
        "file:///good.png",
        "file://deep/good.png",
        "FILE://good.png",
    ] {
        let (status, json) = answer_of(&router, CHAT, &picture(good));
        // The fake has a question without words; that it was asked is what counts.
        assert_eq!(status, StatusCode::OK, "{good}: {json}");
    }
    let absolute = format!("file://{}", folder.path().join("secret.png").display());
    let mut seen = Vec::new();
    for bad in [
        "file://../secret.png",
        "file:///../secret.png",
        "file://deep/../../secret.png",
        "file://./../secret.png",
        "file://link.png",
        "file:///etc/passwd",
        "file://deep",
        "file://",
        "file://nothing.png",
        "file://good.png\u{0}.png",
        absolute.as_str(),
    ] {
        let (status, json) = answer_of(&router, CHAT, &picture(bad));
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}: {json}");
        seen.push(json["error"]["message"].clone());
    }
    // What is outside and what is not there are told in the same words.
    assert!(seen.iter().all(|message| *message == seen[0]), "{seen:?}");
    assert!(
        !seen[0]
            .as_str()
            .unwrap()
            .contains(&*folder.path().to_string_lossy())
    );
}

#[test]
fn without_a_media_folder_no_file_is_read() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    assert_eq!(
        refused(config(), &format!("file://{}", here.display())),
        "invalid_image_url"
    );
    assert_eq!(refused(config(), "/etc/passwd"), "invalid_image_url");
    assert_eq!(refused(config(), "../x.png"), "invalid_image_url");
}

/// The head of a PNG that announces so many pixels, and nothing behind it.
fn png_head(width: u32, height: u32) -> String {
    use base64::Engine as _;
    let mut bytes = png(1, 1);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    // The checksum of the header chunk, computed by the definition (reflected polynomial 0xEDB88320).
    let crc = !bytes[12..29].iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                crc >> 1 ^ 0xEDB8_8320
            } else {
                crc >> 1
            }
        })
    });
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    format!(
        "data:image/png;base64,{}",
        base64::engine::general_purpose::STANDARD.encode(&bytes)
    )
}

#[test]
fn a_picture_that_announces_four_thousand_million_pixels_is_not_decoded() {
    assert_eq!(
        refused(config(), &png_head(65_535, 65_535)),
        "image_too_large"
    );
    assert_eq!(
        refused(config(), &png_head(u32::MAX, u32::MAX)),
        "image_too_large"
    );
    assert_eq!(refused(config(), &png_head(7000, 7000)), "image_too_large");
    // The same head with a size that is allowed and data that are not there: the limit is not what refuses everything.
    assert_ne!(refused(config(), &png_head(60, 60)), "image_too_large");
}

/// Heads of the other formats that announce 65,535 x 65,535 pixels, and next to nothing behind them.
#[test]
fn no_format_is_believed_about_its_size() {
    use base64::Engine as _;
    let gif = b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;";
    // Start of frame: eight bits, one component; start of scan.
    let jpeg = b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0\xff\xda\0\x08\x01\x01\0\0\x3f\0\0";
    let webp = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xfe\xff\0\xfe\xff\0";
    let mut bmp = b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bmp.extend([65_535u32, 65_535].map(u32::to_le_bytes).concat());
    bmp.extend(b"\x01\0\x18\0");
    bmp.resize(54 + 16, 0);
    for bytes in [&gif[..], jpeg, webp, &bmp] {
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        let code = refused(config(), &format!("data:image/png;base64,{text}"));
        let known = ["image_too_large", "image_parse_error"].contains(&code.as_str());
        assert!(known, "{code}: {bytes:?}");
    }
    // These two are refused for what they announce, and not for what is missing.
    for bytes in [&gif[..], &bmp] {
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        let url = format!("data:image/png;base64,{text}");
        assert_eq!(refused(config(), &url), "image_too_large");
    }
}

#[test]
fn a_hundred_megabytes_of_base64_are_refused_by_their_length() {
    let mut limited = config();
    limited.limits.body_bytes = 1 << 20;
    let router = app(FakeChat::new(9), limited);
    let body = picture(&format!("data:image/png;base64,{}", "A".repeat(2 << 20))).to_string();
    let (response, text) = call(&router, post(CHAT, body.clone()));
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE, "{text}");
    // The same where no length is announced.
    let mut request = post(CHAT, body.clone());
    request.headers_mut().remove(header::CONTENT_LENGTH);
    assert_eq!(
        call(&router, request).0.status(),
        StatusCode::PAYLOAD_TOO_LARGE
    );
    // A length that is announced is believed before anything is read.
    let mut request = post(CHAT, "");
    request
        .headers_mut()
        .insert(header::CONTENT_LENGTH, "100000000".parse().unwrap());
    assert_eq!(
        call(&router, request).0.status(),
        StatusCode::PAYLOAD_TOO_LARGE
    );
    // A body that fits with a picture that does not.
    let mut limited = config();
    limited.limits.picture_bytes = 1 << 20;
    let (_, json) = answer_of(
        &app(FakeChat::new(9), limited.clone()),
        CHAT,
        &serde_json::from_str(&body).unwrap(),
    );
    assert_eq!(json["error"]["code"], "image_file_too_large");
    let (_, json) = answer_of(
        &app(FakeChat::new(9), limited),
        "/v1/images",
        &json!({"image": format!("data:;base64,{}", "A".repeat(2 << 20))}),
    );
    assert_eq!(json["error"]["code"], "image_file_too_large");
}

#[test]
fn requests_together_take_no_more_memory_than_allowed() {
    let mut limited = config();
    limited.limits.memory_bytes = 45_000;
    let router = app(FakeChat::new(9), limited);
    // A body takes a step of 16 KiB, 75 pixels a side are 16,875 bytes decoded: one picture fits, two do not.
    let one = picture(&data_url(75, 75));
    assert_eq!(answer_of(&router, CHAT, &one).0, StatusCode::OK);
    let part = one["messages"][0]["content"][0].clone();
    let two = json!({"messages": [{"role": "user", "content": [part, part]}]});
    let (status, json) = answer_of(&router, CHAT, &two);
    assert_eq!(
        (status, &json["error"]["code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("out_of_memory"))
    );
    // What a request took comes back.
    assert_eq!(answer_of(&router, CHAT, &one).0, StatusCode::OK);
}

#[test]
fn a_hundred_million_characters_of_base64_are_refused_before_they_are_decoded() {
    // No character of base64: whoever decoded the first one would say so.
    let body = picture(&format!(
        "data:image/png;base64,{}",
        "!".repeat(100_000_000)
    ));
    let asked = |config| answer_of(&app(FakeChat::new(9), config), CHAT, &body);
    let (status, json) = asked(config());
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(json["error"]["code"], "body_too_large");
    let mut long = config();
    long.limits.body_bytes = 200_000_000;
    let (status, json) = asked(long);
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(json["error"]["code"], "image_file_too_large");
}

#[test]
fn a_picture_with_more_behind_its_header_than_that_says_is_no_larger_than_it_says() {
    use base64::Engine as _;
    // Twelve million pixels under a header of sixteen.
    let mut bytes = png(4000, 3000);
    let small = png(4, 4);
    bytes[8..33].copy_from_slice(&small[8..33]);
    let data = base64::engine::general_purpose::STANDARD.encode(bytes);
    let mut config = config();
    config.limits.picture_pixels = 100;
    let chat = FakeChat::new(9);
    let url = format!("data:image/png;base64,{data}");
    let (status, json) = answer_of(&app(chat.clone(), config), CHAT, &picture(&url));
    match status {
        StatusCode::OK => assert_eq!(chat.last().images[0].rgb.len(), 4 * 4 * 3),
        _ => assert_eq!(json["error"]["code"], "image_parse_error", "{json}"),
    }
}

#[test]
fn json_a_million_deep_is_refused() {
    let router = app(FakeChat::new(9), config());
    for body in [
        "[".repeat(1 << 20),
        "{\"messages\":".repeat(1 << 18),
        format!("{{\"messages\":{}", "[".repeat(1 << 20)),
    ] {
        let (response, text) = call(&router, post(CHAT, body));
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert!(
            text.contains("\"code\":\"invalid_json\"") && text.len() < 400,
            "{text}"
        );
    }
}

#[test]
fn errors_do_not_repeat_what_was_sent_at_length() {
    let router = app(FakeChat::new(9), config());
    let long = "x".repeat(1 << 20);
    for body in [
        json!({"messages": long}),
        json!({"messages": [{"role": long, "content": "hi"}]}),
        json!({"messages": [{"role": "user", "content": [{"type": long}]}]}),
        json!({"messages": [{"role": "user", "content": "hi"}], "stop": {"a": long}}),
        json!({"messages": [{"role": "user", "content": "hi"}], "think": long}),
        picture(&format!("img_{long}")),
    ] {
        let (_, json) = answer_of(&router, CHAT, &body);
        assert!(json.to_string().len() < 500, "{}", json.to_string().len());
    }
}

fn with_header(name: &'static str, value: &str) -> Request<Body> {
    let mut request = get("/v1/models");
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

#[test]
fn a_name_that_somebody_points_here_is_not_answered() {
    let mut named = config();
    named.hosts = vec!["box.home".into()];
    let router = app(FakeChat::new(9), named);
    for host in [
        "127.0.0.1",
        "127.0.0.1:9000",
        "localhost",
        "LOCALHOST:80",
        "localhost.:80",
        "a.localhost",
        "[::1]:8080",
        "192.168.1.7",
        "box.home",
        "Box.Home:80",
    ] {
        assert_eq!(
            call(&router, with_header("host", host)).0.status(),
            StatusCode::OK,
            "{host}"
        );
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "xlocalhost",
        "",
        "box.home.evil",
        "127.0.0.1@evil.example",
    ] {
        let (response, text) = call(&router, with_header("host", host));
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{host}: {text}");
        assert!(text.contains("\"code\":\"wrong_host\""), "{text}");
    }
    // Neither the page nor its health are shown.
    for path in ["/", "/health", "/assets/main.js"] {
        let mut request = get(path);
        request
            .headers_mut()
            .insert("host", "evil.example".parse().unwrap());
        assert_eq!(call(&router, request).0.status(), StatusCode::FORBIDDEN);
    }
    let mut none = get("/health");
    none.headers_mut().remove("host");
    assert_eq!(call(&router, none).0.status(), StatusCode::BAD_REQUEST);
    let mut two = get("/health");
    two.headers_mut()
        .append("host", "evil.example".parse().unwrap());
    assert_eq!(call(&router, two).0.status(), StatusCode::BAD_REQUEST);
    let in_line = Request::get("http://evil.example/health")
        .header("host", "localhost")
        .body(Body::empty())
        .unwrap();
    assert_eq!(call(&router, in_line).0.status(), StatusCode::FORBIDDEN);
}

#[test]
fn pages_of_other_sites_may_not_ask() {
    let mut allowing = config();
    allowing.origins = vec!["https://app.example".into()];
    let router = app(FakeChat::new(9), allowing);
    for origin in [
        "http://127.0.0.1:8080",
        "https://127.0.0.1:8080",
        "https://app.example",
    ] {
        assert_eq!(
            call(&router, with_header("origin", origin)).0.status(),
            StatusCode::OK,
            "{origin}"
        );
    }
    for origin in [
        "null",
        "http://evil.example",
        "http://127.0.0.1:9999",
        "http://app.example",
        "https://app.example.evil",
        "file://",
    ] {
        let (response, text) = call(&router, with_header("origin", origin));
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{origin}: {text}");
        assert!(
            !response
                .headers()
                .contains_key("access-control-allow-origin")
        );
    }
    let (response, _) = call(&router, with_header("origin", "https://app.example"));
    assert_eq!(
        response.headers()["access-control-allow-origin"],
        "https://app.example"
    );
    // A picture or a script of another page's.
    assert_eq!(
        call(&router, with_header("sec-fetch-site", "cross-site"))
            .0
            .status(),
        StatusCode::FORBIDDEN
    );
}

#[test]
fn a_browser_asks_whether_it_may_ask_and_is_told() {
    let mut allowing = config();
    allowing.origins = vec!["https://app.example".into()];
    allowing.keys = vec!["secret".into()];
    let router = app(FakeChat::new(9), allowing);
    let preflight = |origin: &str| {
        let builder = Request::options(CHAT)
            .header("host", "localhost")
            .header("origin", origin);
        builder
            .header("access-control-request-method", "POST")
            .body(Body::empty())
            .unwrap()
    };
    let (response, _) = call(&router, preflight("https://app.example"));
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(
        response.headers()["access-control-allow-origin"],
        "https://app.example"
    );
    assert_eq!(
        call(&router, preflight("https://evil.example")).0.status(),
        StatusCode::FORBIDDEN
    );
}

#[test]
fn without_its_key_nothing_but_page_and_health_is_shown() {
    let mut keyed = config();
    keyed.keys = vec!["secret".into(), "other".into()];
    let router = app(FakeChat::new(9), keyed);
    for (name, value) in [
        ("authorization", "Bearer secret"),
        ("authorization", "Bearer other"),
        ("x-api-key", "secret"),
    ] {
        assert_eq!(
            call(&router, with_header(name, value)).0.status(),
            StatusCode::OK,
            "{value}"
        );
    }
    for (name, value) in [
        ("authorization", "Bearer "),
        ("authorization", "Bearer secre"),
        ("authorization", "secret"),
        ("authorization", "Basic secret"),
        ("x-api-key", "secret2"),
        ("x-api-key", ""),
    ] {
        let (response, text) = call(&router, with_header(name, value));
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{value}");
        assert!(text.contains("\"code\":\"invalid_api_key\""), "{text}");
    }
    for path in ["/v1/models", "/metrics", "/v1/images/img_0"] {
        assert_eq!(
            call(&router, get(path)).0.status(),
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
    }
    for path in ["/", "/health", "/assets/main.js"] {
        assert_eq!(
            call(&router, get(path)).0.status(),
            StatusCode::OK,
            "{path}"
        );
    }
    let (response, text) = call(&router, post("/v1/messages", "{}"));
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(text.contains("\"type\":\"authentication_error\""), "{text}");
}
