//! Pictures that are fetched, from a host of this machine that plays the public internet, and what must not be fetched.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value as Json, json};
use server::{Config, Reach, Remote, app, is_global};

use crate::fake::{FakeChat, answer_of, config, png};

const CHAT: &str = "/v1/chat/completions";

/// A host that answers by path, and notes what it was asked.
struct Host {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Host {
    fn start() -> Host {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let its_asked = asked.clone();
        // Ends with the tests' process.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut head = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                its_asked.lock().unwrap().push(head);
                // A client that has gone away is the test's business.
                let _ = stream.write_all(&answer(&path));
                if path == "/slow" {
                    std::thread::spawn(move || drip(stream));
                }
            }
        });
        Host { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// A byte now and then, for ever.
fn drip(mut stream: std::net::TcpStream) {
    while stream.write_all(b"x").is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn answer(path: &str) -> Vec<u8> {
    let redirect =
        |to: &str| format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    let text = match path {
        "/good.png" => {
            let png = png(3, 3);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", png.len());
            return [head.into_bytes(), png].concat();
        }
        "/to-good" => redirect("/good.png"),
        "/to-private" => redirect("http://10.0.0.1/good.png"),
        "/to-metadata" => redirect("http://169.254.169.254/latest/meta-data/"),
        "/to-loopback" => redirect("http://[::1]/good.png"),
        "/to-file" => redirect("file:///etc/passwd"),
        "/to-rebound" => redirect("http://rebound.example/good.png"),
        "/round" => redirect("/round"),
        "/long" => "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n".into(),
        "/endless" => {
            let body = "x".repeat(2 << 20);
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}")
        }
        "/slow" => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".into(),
        "/nonsense" => "SSH-2.0-x\r\n".into(),
        _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
    };
    text.into_bytes()
}

/// Knows `public.example`, whose address is the host's; `rebound.example`, which is the host's the first time and a private
/// one ever after; `mixed.example`, which is both at once; and takes numbers for what they are.
#[derive(Debug)]
struct Names {
    host: SocketAddr,
    resolved: AtomicUsize,
    rebound: AtomicUsize,
}

impl Reach for Names {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.resolved.fetch_add(1, Ordering::SeqCst);
        let private = SocketAddr::new([10, 0, 0, 1].into(), port);
        match host {
            "public.example" => Ok(vec![self.host]),
            "mixed.example" => Ok(vec![self.host, private]),
            "rebound.example" => match self.rebound.fetch_add(1, Ordering::SeqCst) {
                0 => Ok(vec![self.host]),
                _ => Ok(vec![private]),
            },
            number => match number.parse::<IpAddr>() {
                Ok(address) => Ok(vec![SocketAddr::new(address, port)]),
                Err(_) => Err(io::ErrorKind::NotFound.into()),
            },
        }
    }

    /// The host stands for the public internet.
    fn may_connect(&self, address: IpAddr) -> bool {
        address == self.host.ip() || is_global(address)
    }
}

fn names(host: &Host) -> Arc<Names> {
    Arc::new(Names {
        host: host.address,
        resolved: AtomicUsize::new(0),
        rebound: AtomicUsize::new(0),
    })
}

fn allowing(names: &Arc<Names>) -> Config {
    let mut config = config();
    config.limits.picture_bytes = 1 << 20;
    config.remote = Some(Remote {
        reach: names.clone(),
        time: Duration::from_millis(1500),
    });
    config
}

fn about(address: &str) -> Json {
    let image = json!({"type": "image_url", "image_url": {"url": address}});
    json!({"messages": [{"role": "user", "content": [image, {"type": "text", "text": "What?"}]}]})
}

/// The code and message with which an address is refused.
fn refused(config: Config, address: &str) -> (String, String) {
    let chat = FakeChat::new(9);
    let (status, json) = answer_of(&app(chat.clone(), config), CHAT, &about(address));
    assert_eq!(status, StatusCode::BAD_REQUEST, "{address}: {json}");
    assert!(chat.asked.lock().unwrap().is_empty(), "{address}");
    let text = |name: &str| json["error"][name].as_str().unwrap().to_owned();
    assert_eq!(text("param"), "messages[0].content[0].image_url");
    (text("code"), text("message"))
}

#[test]
fn a_picture_is_fetched_once_from_the_very_address_that_was_checked() {
    let host = Host::start();
    let names = names(&host);
    let chat = FakeChat::new(9);
    let router = app(chat.clone(), allowing(&names));
    let (status, json) = answer_of(&router, CHAT, &about("http://public.example/good.png"));
    assert_eq!(status, StatusCode::OK, "{json}");
    assert_eq!(
        (chat.last().images[0].width, chat.last().images[0].height),
        (3, 3)
    );
    assert_eq!(names.resolved.load(Ordering::SeqCst), 1);
    let head = host.asked.lock().unwrap()[0].clone();
    assert!(head.starts_with("GET /good.png HTTP/1.1\r\n"), "{head}");
    assert!(
        head.to_lowercase().contains("host: public.example:80\r\n"),
        "{head}"
    );
    for private in ["authorization", "cookie", "referer", "x-api-key"] {
        assert!(!head.to_lowercase().contains(private), "{head}");
    }
    // The same address twice in a request is fetched once; a redirect is followed; /v1/images takes addresses too.
    let mut twice = about("http://public.example/to-good");
    let image = twice["messages"][0]["content"][0].clone();
    twice["messages"][0]["content"]
        .as_array_mut()
        .unwrap()
        .push(image);
    assert_eq!(answer_of(&router, CHAT, &twice).0, StatusCode::OK);
    assert_eq!(host.asked(), 3);
    let kept = json!({"image": "http://public.example/good.png"});
    let (status, json) = answer_of(&router, "/v1/images", &kept);
    assert_eq!((status, &json["width"]), (StatusCode::OK, &json!(3)));
}

#[test]
fn a_name_that_changes_its_meaning_leads_nowhere() {
    let host = Host::start();
    let names = names(&host);
    // Resolved once and connected to what was resolved: the second meaning is never asked for.
    let (status, json) = answer_of(
        &app(FakeChat::new(9), allowing(&names)),
        CHAT,
        &about("http://rebound.example/good.png"),
    );
    assert_eq!(status, StatusCode::OK, "{json}");
    assert_eq!(names.rebound.load(Ordering::SeqCst), 1);
    // Where a redirect makes it be resolved again, it is checked again.
    let (code, message) = refused(allowing(&names), "http://public.example/to-rebound");
    assert_eq!(code, "invalid_image_url");
    assert!(
        message.contains("does not lead to the public internet"),
        "{message}"
    );
    assert_eq!(host.asked(), 2);
    // One private address among public ones is enough.
    let (code, _) = refused(allowing(&names), "http://mixed.example/good.png");
    assert_eq!((code.as_str(), host.asked()), ("invalid_image_url", 2));
}

#[test]
fn private_addresses_are_not_connected_to_however_they_are_written() {
    let host = Host::start();
    let names = names(&host);
    for address in [
        "http://10.0.0.1/x.png",
        "http://192.168.1.1:8080/x.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/x.png",
        "http://[fd00::1]/x.png",
        "http://[::ffff:10.0.0.1]/x.png",
        "http://0.0.0.0/x.png",
        "http://user@public.example/good.png",
        "http://public.example/to-private",
        "http://public.example/to-metadata",
        "http://public.example/to-loopback",
        "http://public.example/to-file",
    ] {
        assert_eq!(
            refused(allowing(&names), address).0,
            "invalid_image_url",
            "{address}"
        );
    }
    // The four redirects were asked for, and nothing else.
    assert_eq!(host.asked(), 4);
    // The system's own resolver reads numbers in every notation, and they are checked as what they mean.
    let mut plain = config();
    plain.remote = Some(Remote::default());
    for address in [
        "http://2130706433/x",
        "http://0x7f.1/x",
        "http://localhost/x",
        "http://127.1/x",
    ] {
        let (code, _) = refused(plain.clone(), address);
        let known = ["invalid_image_url", "failed_to_download_image"];
        assert!(known.contains(&code.as_str()), "{address}: {code}");
    }
}

#[test]
fn length_time_and_redirects_are_bounded() {
    let host = Host::start();
    let names = names(&host);
    for (path, code, message) in [
        ("/long", "image_file_too_large", "more than 1048576 bytes"),
        (
            "/endless",
            "image_file_too_large",
            "more than 1048576 bytes",
        ),
        (
            "/slow",
            "failed_to_download_image",
            "longer than 1.5 seconds",
        ),
        (
            "/round",
            "failed_to_download_image",
            "more than 3 redirects",
        ),
        ("/nothing", "failed_to_download_image", "answered 404"),
        (
            "/nonsense",
            "failed_to_download_image",
            "does not answer as it should",
        ),
    ] {
        let found = refused(allowing(&names), &format!("http://public.example{path}"));
        assert_eq!(found.0, code, "{path}");
        assert!(found.1.contains(message), "{path}: {}", found.1);
    }
    let (code, _) = refused(allowing(&names), "http://unknown.example/x.png");
    assert_eq!(code, "failed_to_download_image");
}

#[test]
fn a_host_without_a_certificate_for_its_name_is_not_believed() {
    let host = Host::start();
    let address = format!("https://public.example:{}/good.png", host.address.port());
    let (code, message) = refused(allowing(&names(&host)), &address);
    assert_eq!(code, "failed_to_download_image", "{message}");
}
