//! The chat page in a real Chromium, driven over WebDriver (<https://www.w3.org/TR/webdriver2/>). Where `chromedriver` and
//! Chromium are not installed (Debian: `chromium-driver`), these tests say that they are skipped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::server::{Server, receipt, run_json};

/// A browser with one window; ends when dropped.
struct Browser {
    driver: Child,
    _stdout: BufReader<ChildStdout>,
    port: u16,
    session: String,
}

impl Browser {
    /// None, and a word about it, where there is no browser.
    fn start() -> Option<Self> {
        let started = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut driver) = started else {
            eprintln!("skipped: chromedriver is not installed");
            return None;
        };
        let mut stdout = BufReader::new(driver.stdout.take().unwrap());
        let mut line = String::new();
        let port = loop {
            line.clear();
            assert!(
                stdout.read_line(&mut line).unwrap() > 0,
                "chromedriver ended"
            );
            if let Some((_, port)) = line
                .trim_end()
                .trim_end_matches('.')
                .split_once("successfully on port ")
            {
                break port.parse().unwrap();
            }
        };
        let mut browser = Browser {
            driver,
            _stdout: stdout,
            port,
            session: String::new(),
        };
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1280,800",
        ];
        let options = json!({"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}});
        let session = browser.send("POST", "/session", &json!({"capabilities": options}));
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        Some(browser)
    }

    fn send(&self, method: &str, path: &str, body: &Json) -> Json {
        let body = body.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        // The driver leaves the connection open.
        let mut answer = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            answer.read_line(&mut line).unwrap();
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
            if line.trim_end().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body).unwrap();
        let mut json: Json = serde_json::from_slice(&body).unwrap();
        let value = json["value"].take();
        assert!(value.get("error").is_none(), "{path}: {value}");
        value
    }

    fn command(&self, path: &str, body: &Json) -> Json {
        self.send("POST", &format!("/session/{}{path}", self.session), body)
    }

    fn open(&self, server: &Server) {
        self.command(
            "/url",
            &json!({"url": format!("http://{}/", server.address)}),
        );
    }

    /// What a function's body gives, which may wait.
    fn run(&self, script: &str, argument: &str) -> Json {
        let whole = format!(
            "const done = arguments[1]; (async (argument) => {{ {script} }})(arguments[0]).then(done, (error) => done(String(error)));"
        );
        self.command(
            "/execute/async",
            &json!({"script": whole, "args": [argument]}),
        )
    }

    /// Waits until an expression is true; far longer than it takes, for a machine that is busy.
    fn wait_for(&self, expression: &str) {
        let started = Instant::now();
        while self.run(&format!("return Boolean({expression});"), "") != json!(true) {
            assert!(
                started.elapsed() < Duration::from_secs(120),
                "{expression}: {}",
                self.run("return document.body.innerText;", "")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn text(&self, selector: &str) -> String {
        let text = self.run(
            "return [...document.querySelectorAll(argument)].at(-1)?.textContent ?? null;",
            selector,
        );
        text.as_str().unwrap_or_default().to_owned()
    }

    fn drop_picture(&self) {
        self.run(
            "const data = new DataTransfer();
             const bytes = Uint8Array.from(atob(argument.split(',')[1]), (letter) => letter.charCodeAt(0));
             data.items.add(new File([bytes], 'receipt.png', { type: 'image/png' }));
             document.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));",
            &receipt(),
        );
    }

    /// Types a question and sends it by the Enter key.
    fn ask(&self, question: &str) {
        let found = self.command(
            "/element",
            &json!({"using": "css selector", "value": "#question"}),
        );
        let element = found
            .as_object()
            .unwrap()
            .values()
            .next()
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned();
        self.command(
            &format!("/element/{element}/value"),
            &json!({"text": format!("{question}\u{E007}")}),
        );
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium too, which killing the driver would not. No panic here: a test may be failing already.
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let head = format!(
                "DELETE /session/{} HTTP/1.1\r\nhost: localhost\r\n\r\n",
                self.session
            );
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.read(&mut [0; 512]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

const ANSWERED: &str = "!document.getElementById('send').hidden && document.querySelector('.turn.assistant .markdown')";

#[test]
fn a_picture_is_dropped_asked_about_and_still_there_after_a_reload() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let server = Server::start(&[]);
    browser.open(&server);
    browser.wait_for("document.getElementById('model').textContent === 'bluelm-nano'");
    browser.drop_picture();
    browser.wait_for("document.querySelector('#tray figcaption')?.textContent.includes('tokens')");
    assert_eq!(
        browser.text("#tray figcaption"),
        "420 × 497\u{a0}· 2 × 2 tiles + whole\u{a0}· 1280 tokens"
    );
    // Two lines, each over a darker one.
    assert_eq!(
        browser.run(
            "return document.querySelectorAll('#tray svg.grid line').length;",
            ""
        ),
        json!(4)
    );
    browser.ask("What is the total?");
    browser.wait_for(ANSWERED);
    let expected = run_json(&["What is the total?"]);
    assert_eq!(
        browser.text(".turn.assistant .markdown"),
        expected["text"].as_str().unwrap()
    );
    assert!(
        browser
            .text(".turn.assistant .figures")
            .contains(" tokens read")
    );
    assert!(
        browser
            .text(".turn.assistant .figures")
            .contains(" MB of memory")
    );

    browser.wait_for("document.querySelectorAll('.conversation').length === 1");
    browser.open(&server);
    browser.wait_for(ANSWERED);
    assert_eq!(
        browser.text(".turn.assistant .markdown"),
        expected["text"].as_str().unwrap()
    );
    assert_eq!(
        browser.run(
            "return document.querySelectorAll('.turn.user .picture img').length;",
            ""
        ),
        json!(1)
    );
}

/// A picture that nobody has asked about yet: the server is looking at it already, and the page says how far it is.
#[test]
fn how_far_a_picture_is_looked_at_is_seen_while_the_question_is_typed() {
    let Some(browser) = Browser::start() else {
        return;
    };
    // One tile after the other, by one thread: time enough to see it.
    let server = Server::start(&["--threads", "1", "--tile-batch", "1"]);
    browser.open(&server);
    browser.wait_for("document.getElementById('model').textContent === 'bluelm-nano'");
    browser.run(
        "window.seen = [];
         new MutationObserver(() => {
           const bar = document.querySelector('#tray progress');
           if (bar) seen.push([bar.value, bar.max, bar.getAttribute('aria-label')]);
         }).observe(document.getElementById('tray'), { childList: true, subtree: true });",
        "",
    );
    browser.drop_picture();
    browser.wait_for("seen.length > 0 && !document.querySelector('#tray progress')");
    let seen = browser.run("return seen;", "");
    let seen = seen.as_array().unwrap();
    let done = |event: &Json| event[0].as_u64().unwrap();
    assert!(seen.iter().all(|event| event[1] == 5), "{seen:?}");
    assert!(
        seen.iter().any(|event| (1..5).contains(&done(event))),
        "{seen:?}"
    );
    assert!(seen.is_sorted_by_key(done), "{seen:?}");
    let words = format!("Looking at it: {} of 5 tiles", done(&seen[0]));
    assert_eq!(seen[0][2], words.as_str());
    // What the question would cost stands below, before it is sent.
    browser.run(
        "question.value = 'What is the total?'; question.oninput();",
        "",
    );
    browser.wait_for("document.getElementById('cost').textContent.includes(' of 4096 tokens · ')");
    assert!(
        browser.text("#cost").contains(" MB"),
        "{}",
        browser.text("#cost")
    );
}

#[test]
fn a_picture_is_pasted_and_a_question_asked_again_in_other_words() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let server = Server::start(&[]);
    browser.open(&server);
    browser.wait_for("document.getElementById('model').textContent === 'bluelm-nano'");
    browser.run(
        "const data = new DataTransfer();
         const bytes = Uint8Array.from(atob(argument.split(',')[1]), (letter) => letter.charCodeAt(0));
         data.items.add(new File([bytes], 'receipt.png', { type: 'image/png' }));
         document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }));",
        &receipt(),
    );
    browser.wait_for("document.querySelector('#tray figcaption')?.textContent.includes('tokens')");
    browser.ask("What is the date?");
    browser.wait_for(ANSWERED);
    let press = |selector: &str| browser.run("document.querySelector(argument).click();", selector);
    press(".turn.user .actions button");
    browser.wait_for("document.querySelector('.edit textarea')");
    browser.run(
        "document.querySelector('.edit textarea').value = 'What is the total?';",
        "",
    );
    press(".edit button.main");
    browser.wait_for(ANSWERED);
    let expected = run_json(&["What is the total?"]);
    assert_eq!(
        browser.text(".turn.assistant .markdown"),
        expected["text"].as_str().unwrap()
    );
    // The first answer is gone, and the picture has been looked at once.
    let turns = "return document.querySelectorAll('.turn').length;";
    assert_eq!(browser.run(turns, ""), json!(2));
    assert!(browser.text(".figures").contains(" of them remembered"));
}

#[test]
fn a_thought_is_folded_counted_and_stopped() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let server = Server::start(&[]);
    browser.open(&server);
    browser.wait_for("document.getElementById('model').textContent === 'bluelm-nano'");
    // Presses the button as soon as it is there: the thought of a small model is short.
    browser.run(
        "document.getElementById('mode').value = 'think';
         document.getElementById('mode').onchange();
         new MutationObserver(() => document.querySelector('.thought summary button:enabled')?.click()).observe(document.getElementById('log'), { childList: true, subtree: true });",
        "",
    );
    browser.drop_picture();
    browser.wait_for("document.querySelector('#tray figcaption')?.textContent.includes('tokens')");
    browser.ask("What do all items cost together?");
    browser
        .wait_for("!document.getElementById('send').hidden && document.querySelector('.thought')");
    assert!(browser.text(".thought .label").starts_with("Thought · "));
    assert_eq!(
        browser.run("return document.querySelector('.thought').open;", ""),
        json!(false)
    );
    // On a busy machine the thought may end before the button is drawn; then it is asked again.
    for _ in 0..10 {
        if browser.text(".thought .label").ends_with("stopped by you") {
            return;
        }
        browser.run("[...document.querySelectorAll('.turn.assistant .actions button')].find((button) => button.textContent === 'Again').click();", "");
        browser.wait_for(
            "!document.getElementById('send').hidden && document.querySelector('.thought')",
        );
    }
    panic!(
        "no thought was stopped: {}",
        browser.text(".thought .label")
    );
}

#[test]
fn what_a_model_writes_becomes_no_html() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let server = Server::start(&[]);
    browser.open(&server);
    let render = |text: &str| {
        let script = "const { render } = await import('/assets/markdown.js'); const box = document.createElement('div'); box.append(render(argument)); return box.innerHTML;";
        browser.run(script, text).as_str().unwrap().to_owned()
    };
    insta::assert_snapshot!(render(
        "# Title\n\n**bold** *slanted* `code`\n\n- one\n  - two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```rust\nlet x = \"<b>\";\n```"
    ));
    for hostile in [
        "<img src=x onerror=alert(1)><script>alert(1)</script>",
        "[click](javascript:alert(1)) [data](data:text/html,<script>)",
        "![picture](https://example.org/spy.png)",
        "`<iframe>` **<svg onload=alert(1)>**",
        "| <img src=x> |\n|---|\n| <img src=x> |",
    ] {
        let html = render(hostile);
        for tag in [
            "<img",
            "<script",
            "<iframe",
            "<svg",
            "href=\"javascript",
            "href=\"data",
        ] {
            assert!(!html.contains(tag), "{hostile}: {html}");
        }
    }
    // Marks that are never closed, many times over.
    for mark in ["*", "_a", "[", "`", "> ", "- ", "![]("] {
        let started = Instant::now();
        render(&mark.repeat(5000));
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{mark}: {:?}",
            started.elapsed()
        );
    }
}
