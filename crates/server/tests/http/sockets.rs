//! Through real sockets: clients that go away, that are slow, and the end of the server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::Cancel;
use server::{Config, serve};

use crate::fake::{FakeChat, config};

/// A server on a free port; ends when dropped.
struct Running {
    address: SocketAddr,
    stop: Cancel,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Running {
    fn start(chat: Arc<FakeChat>, config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Cancel::new();
        let switch = stop.clone();
        let thread = Some(std::thread::spawn(move || {
            serve(listener, chat, config, &switch)
        }));
        Running {
            address,
            stop,
            thread,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    /// Sends a question; the answer is the caller's to read.
    fn ask(&self, text: &str, stream: bool) -> TcpStream {
        let body =
            format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}],"stream":{stream}}}"#);
        let mut connection = self.connect();
        write!(
            connection,
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        connection
    }

    fn end(&mut self) -> Duration {
        let started = Instant::now();
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap().unwrap();
        started.elapsed()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn all(mut connection: TcpStream) -> String {
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap();
    text
}

/// Reads until `mark` came.
fn until(connection: &mut TcpStream, mark: &str) -> String {
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(mark) {
        let mut some = [0; 512];
        let count = connection.read(&mut some).unwrap();
        assert!(
            count > 0,
            "{mark} did not come: {}",
            String::from_utf8_lossy(&bytes)
        );
        bytes.extend_from_slice(&some[..count]);
    }
    String::from_utf8(bytes).unwrap()
}

/// Waits until something holds; far longer than it takes, for a machine that is busy.
fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn an_answer_comes_through_a_socket_with_its_headers() {
    let server = Running::start(FakeChat::new(9), config());
    let text = all(server.ask("hello", false));
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("\"content\":\"You said: hello\""),
        "{text}"
    );
    for header in [
        "x-request-id: req_",
        "content-security-policy: default-src 'none'",
        "x-content-type-options: nosniff",
    ] {
        assert!(text.contains(header), "{header}: {text}");
    }
}

#[test]
fn a_client_that_goes_away_cancels_its_own_work_and_nobody_elses() {
    for stream in [true, false] {
        let chat = FakeChat::new(9);
        let server = Running::start(chat.clone(), config());
        let mut stays = server.ask("wait", true);
        until(&mut stays, "said:");
        let mut goes = server.ask("wait", stream);
        if stream {
            until(&mut goes, "said:");
        } else {
            wait_for("the second question", || {
                chat.asked.lock().unwrap().len() == 2
            });
        }
        drop(goes);
        wait_for("a cancel", || chat.cancelled.load(Ordering::SeqCst) == 1);
        // The other one is still there, and the server answers.
        assert!(all(server.ask("hello", false)).contains("You said: hello"));
        assert_eq!(chat.cancelled.load(Ordering::SeqCst), 1);
        drop(stays);
        wait_for("the other cancel", || {
            chat.cancelled.load(Ordering::SeqCst) == 2
        });
    }
}

#[test]
fn a_head_that_never_ends_is_given_up() {
    let mut config = config();
    config.limits.header_time = Duration::from_millis(300);
    let server = Running::start(FakeChat::new(9), config);
    let mut slow = server.connect();
    let started = Instant::now();
    slow.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n")
        .unwrap();
    // A letter now and then does not help.
    let mut writer = slow.try_clone().unwrap();
    let drip = std::thread::spawn(move || {
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(50));
            if writer.write_all(b"x").is_err() {
                return;
            }
        }
    });
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    drip.join().unwrap();
}

#[test]
fn a_connection_that_never_asks_is_given_up() {
    let mut config = config();
    config.limits.header_time = Duration::from_millis(300);
    let server = Running::start(FakeChat::new(9), config);
    let mut silent = server.connect();
    let mut rest = Vec::new();
    let started = Instant::now();
    let _ = silent.read_to_end(&mut rest);
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_body_that_never_ends_is_given_up() {
    let mut config = config();
    config.limits.body_time = Duration::from_millis(300);
    let server = Running::start(FakeChat::new(9), config);
    let mut slow = server.connect();
    slow.write_all(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{",
    )
    .unwrap();
    let text = until(&mut slow, "the body took longer");
    assert!(text.starts_with("HTTP/1.1 408"), "{text}");
}

#[test]
fn a_body_that_is_only_announced_takes_no_memory_from_others() {
    let mut config = config();
    config.limits.memory_bytes = 60_000_000;
    let server = Running::start(FakeChat::new(9), config);
    // Each announces all that requests may take together.
    let slow: Vec<TcpStream> = (0..9)
        .map(|_| {
            let mut slow = server.connect();
            slow.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 60000000\r\n\r\n{").unwrap();
            slow
        })
        .collect();
    std::thread::sleep(Duration::from_millis(100));
    assert!(all(server.ask("hello", false)).contains("You said: hello"));
    drop(slow);
}

#[test]
fn a_client_that_takes_nothing_is_given_up() {
    let mut config = config();
    config.limits.write_time = Duration::from_millis(300);
    let server = Running::start(FakeChat::new(9), config);
    let mut greedy = server.connect();
    // Far more than the system keeps for a connection: 4,000 times over ten thousand bytes.
    const COUNT: usize = 4000;
    let mut writer = greedy.try_clone().unwrap();
    let asking = std::thread::spawn(move || {
        let requests = "GET /assets/main.js HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(COUNT);
        let _ = writer.write_all(requests.as_bytes());
    });
    std::thread::sleep(Duration::from_millis(1500));
    let mut bytes = Vec::new();
    let _ = greedy.read_to_end(&mut bytes);
    let answers = String::from_utf8_lossy(&bytes)
        .matches("HTTP/1.1 200 OK")
        .count();
    assert!(answers > 0 && answers < COUNT, "{answers}");
    asking.join().unwrap();
}

#[test]
fn lengths_that_lie_are_refused() {
    let server = Running::start(FakeChat::new(9), config());
    for head in [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: -1\r\n",
        "content-length: 99999999999999999999999\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\nzzz",
    ] {
        let mut connection = server.connect();
        write!(connection, "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{head}\r\nhello").unwrap();
        let mut bytes = Vec::new();
        let _ = connection.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.is_empty() || text.starts_with("HTTP/1.1 4"),
            "{head}: {text}"
        );
    }
    assert!(all(server.ask("hello", false)).contains("You said: hello"));
}

#[test]
fn more_connections_than_allowed_wait_and_are_served_later() {
    let mut config = config();
    config.limits.connections = 1;
    let server = Running::start(FakeChat::new(9), config);
    let mut first = server.ask("wait", true);
    until(&mut first, "said:");
    let second = server.ask("hello", false);
    second
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    assert!(
        (&second).read(&mut [0; 1]).is_err(),
        "the second was served before the first was gone"
    );
    drop(first);
    second
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    assert!(all(second).contains("You said: hello"));
}

#[test]
fn silence_is_filled_with_signs_of_life() {
    let mut config = config();
    config.limits.ping_time = Duration::from_millis(50);
    let server = Running::start(FakeChat::new(9), config);
    let mut stream = server.ask("wait", true);
    until(&mut stream, ": ping\n\n");
}

#[test]
fn the_end_waits_for_running_answers_up_to_its_grace() {
    let mut config = config();
    config.limits.grace_time = Duration::from_millis(400);
    let chat = FakeChat::new(9);
    let mut server = Running::start(chat.clone(), config);
    let mut endless = server.ask("wait", true);
    until(&mut endless, "said:");
    let took = server.end();
    assert!(took >= Duration::from_millis(400), "{took:?}");
    // The fake does not hear `stop`; its ticket is dropped with the connection.
    wait_for("the cancel", || chat.cancelled.load(Ordering::SeqCst) == 1);
    assert!(TcpStream::connect(server.address).is_err());
}

#[test]
fn the_end_is_at_once_when_nothing_runs() {
    let mut server = Running::start(FakeChat::new(9), config());
    let idle = server.connect();
    assert!(all(server.ask("hello", false)).contains("You said: hello"));
    let took = server.end();
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop(idle);
}
