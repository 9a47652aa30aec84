//! Many clients at once, some of whom go away: every answer that is waited for is the one that its request has alone, and no
//! memory is left behind.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::server::{Server, receipt};

const CLIENTS: u64 = 8;
/// Requests of each client in a round.
const REQUESTS: u64 = 20;

/// The questions that are asked: with and without a picture, greedy and drawn, with guesses, short and long.
fn questions() -> Vec<Json> {
    let seen = |text: &str| {
        json!([{"type": "image_url", "image_url": {"url": receipt(), "detail": "low"}},
               {"type": "text", "text": text}])
    };
    let ask = |content: Json, more: Json| {
        let mut body = json!({"messages": [{"role": "user", "content": content}], "stream": true,
                              "reasoning_effort": "none", "max_completion_tokens": 24});
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        body
    };
    vec![
        ask(seen("What is the total?"), json!({})),
        ask(
            seen("What is the date?"),
            json!({"temperature": 0.7, "seed": 5}),
        ),
        ask(json!("What is 3 + 4?"), json!({})),
        ask(
            json!("Say something long."),
            json!({"temperature": 1.0, "seed": 7, "max_completion_tokens": 60}),
        ),
        ask(
            json!("word ".repeat(120)),
            json!({"max_completion_tokens": 8}),
        ),
    ]
}

/// Numbers that look random: the upper half of a linear congruential generator (Knuth's MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % count
    }
}

fn send(address: &str, body: &Json) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(300)))
        .unwrap();
    let body = body.to_string();
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    stream
}

/// The text of a whole stream, with how it ended.
fn text_of(stream: &str) -> String {
    assert!(stream.starts_with("HTTP/1.1 200 "), "{stream}");
    assert!(stream.contains("data: [DONE]"), "{stream}");
    let mut text = String::new();
    for line in stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
    {
        let Ok(event) = serde_json::from_str::<Json>(line) else {
            continue;
        };
        assert!(event.get("error").is_none(), "{event}");
        let choice = &event["choices"][0];
        text += choice["delta"]["content"].as_str().unwrap_or_default();
        if let Some(reason) = choice["finish_reason"].as_str() {
            text = format!("{text}|{reason}");
        }
    }
    text
}

fn whole(address: &str, body: &Json) -> String {
    let mut text = String::new();
    send(address, body).read_to_string(&mut text).unwrap();
    text_of(&text)
}

/// One round of all clients; gives how many answers were waited for.
fn round(address: &str, expected: &[(Json, String)], seed: u64) -> usize {
    let client = |client: u64| {
        let mut dice = Dice(seed * CLIENTS + client);
        let mut answered = 0;
        for _ in 0..REQUESTS {
            let (body, answer) = &expected[dice.below(expected.len() as u64) as usize];
            if dice.below(3) == 0 {
                // Goes away: before the first byte, or somewhere in the answer.
                let mut stream = send(address, body);
                std::thread::sleep(Duration::from_millis(dice.below(200)));
                let mut some = vec![0; dice.below(1500) as usize];
                stream
                    .set_read_timeout(Some(Duration::from_millis(300)))
                    .unwrap();
                let _ = stream.read(&mut some);
                continue;
            }
            assert_eq!(
                &whole(address, body),
                answer,
                "{}",
                body["messages"][0]["content"]
            );
            answered += 1;
        }
        answered
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || client(number)))
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum()
    })
}

/// Waits until nobody is answered any more: those who went away included.
fn settle(server: &Server) {
    let started = Instant::now();
    while server.get("/health")["running"] != 0 {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "somebody is still answered"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Memory of the server's process in kilobytes, without what it remembers of conversations, which has a bound of its own; none where
/// the system does not tell.
fn resident_kb(server: &Server) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let all: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    let body = json!({"messages": [{"role": "user", "content": "hi"}]});
    let cost = server.json("/v1/explain", &body);
    let bytes = cost["cache_bytes"].as_u64()? / cost["prompt_tokens"].as_u64()?;
    let metrics = server.text("/metrics");
    let mut lines = metrics.lines();
    let remembered = lines.find_map(|line| line.strip_prefix("bluelm_cache_tokens "))?;
    Some(all.saturating_sub(remembered.parse::<u64>().ok()? * bytes / 1024))
}

#[test]
fn eight_clients_some_of_whom_vanish_get_the_answers_that_they_get_alone_and_leave_no_memory() {
    let server = Server::start(&["--parallel", "4", "--cache-mb", "20"]);
    let address = &server.address;
    let alone = |body: Json| {
        let answer = whole(address, &body);
        (body, answer)
    };
    let expected: Vec<(Json, String)> = questions().into_iter().map(alone).collect();
    let said: Vec<&String> = expected.iter().map(|(_, answer)| answer).collect();
    assert!(
        said.iter().all(|answer| !answer.starts_with('|')),
        "{said:?}"
    );
    let mut memory = Vec::new();
    // The first round brings what stays: threads, and what is kept of the picture.
    for number in 0..4 {
        let answered = round(address, &expected, number);
        assert!(answered > 60, "only {answered} were waited for");
        settle(&server);
        memory.extend(resident_kb(&server));
        eprintln!("round {number}: {answered} answers, {:?} kB", memory.last());
    }
    // Over ten runs it was 0.5 to 1.6% more, and over 24 rounds 1.3%. One encoded picture that was forgotten in each answer would be
    // 220 times 80 kB: a third more.
    if let [_, before, .., after] = memory[..] {
        assert!(after * 100 <= before * 105, "{memory:?} kB: it grows");
    }
    let metrics = server.text("/metrics");
    assert!(
        metrics.contains("\nbluelm_requests_running 0\n"),
        "{metrics}"
    );
    assert!(metrics.contains("\nbluelm_failed_total 0\n"), "{metrics}");
}
