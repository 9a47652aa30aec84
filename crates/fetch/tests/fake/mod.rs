//! A hub on this machine: HTTP/1.1, one answer a connection.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use sha1::{Digest, Sha1};
use sha2::Sha256;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A file of the model that it has.
#[derive(Clone)]
pub struct File {
    path: String,
    bytes: Vec<u8>,
    large: bool,
}

impl File {
    pub fn small(path: &str, bytes: &[u8]) -> File {
        File {
            path: path.into(),
            bytes: bytes.into(),
            large: false,
        }
    }

    pub fn large(path: &str, bytes: &[u8]) -> File {
        File {
            large: true,
            ..File::small(path, bytes)
        }
    }

    pub fn sum(&self) -> String {
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        if self.large {
            return hex(&Sha256::digest(&self.bytes));
        }
        let head = format!("blob {}\0", self.bytes.len());
        hex(&Sha1::digest([head.as_bytes(), &self.bytes].concat()))
    }
}

/// A question that came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub range: Option<String>,
    pub key: Option<String>,
}

#[derive(Default)]
struct Manners {
    files: Vec<File>,
    asked: Vec<Asked>,
    /// Two answers end after so many bytes.
    break_after: Option<(usize, u8)>,
    ranges_ignored: bool,
    falsified: String,
    size_change: i64,
    elsewhere: Option<String>,
    status: Option<u16>,
}

pub struct FakeHub {
    address: SocketAddr,
    manners: Arc<Mutex<Manners>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeHub {
    pub fn new(files: Vec<File>) -> FakeHub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let manners = Arc::new(Mutex::new(Manners {
            files,
            ..Manners::default()
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let (of_thread, stopped) = (manners.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                // Whoever asked may have gone.
                let _ = answer(stream.unwrap(), &of_thread);
            }
        });
        FakeHub {
            address,
            manners,
            stop,
            thread: Some(thread),
        }
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.lock().asked.clone()
    }

    pub fn break_after(&self, bytes: usize) {
        self.lock().break_after = Some((bytes, 2));
    }

    pub fn ignore_ranges(&self) {
        self.lock().ranges_ignored = true;
    }

    pub fn falsify(&self, path: &str) {
        self.lock().falsified = path.into();
    }

    pub fn lie_about_sizes(&self, change: i64) {
        self.lock().size_change = change;
    }

    pub fn redirect_to(&self, other: &FakeHub) {
        self.lock().elsewhere = Some(other.address());
    }

    pub fn answer_with(&self, status: u16) {
        self.lock().status = Some(status);
    }

    fn lock(&self) -> MutexGuard<'_, Manners> {
        self.manners.lock().unwrap()
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn answer(mut stream: TcpStream, manners: &Mutex<Manners>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut range, mut key) = (None, None);
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        match name.to_lowercase().as_str() {
            "range" => range = Some(value.to_owned()),
            "authorization" => key = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut manners = manners.lock().unwrap();
    manners.asked.push(Asked {
        path: path.clone(),
        range: range.clone(),
        key,
    });
    if let Some(status) = manners.status {
        return head(&mut stream, &format!("{status} No"), 0, "");
    }
    if path.starts_with("/api/models/owner/small-model/revision/main") {
        let listing = listing(&manners);
        head(&mut stream, "200 OK", listing.len(), "")?;
        return stream.write_all(listing.as_bytes());
    }
    if let Some(elsewhere) = &manners.elsewhere {
        let location = format!("Location: {elsewhere}{path}\r\n");
        return head(&mut stream, "302 Found", 0, &location);
    }
    let wanted = path.replace("%20", " ");
    let wanted = wanted.strip_prefix(&format!("/owner/small-model/resolve/{COMMIT}/"));
    let found = manners
        .files
        .iter()
        .find(|file| Some(file.path.as_str()) == wanted);
    let Some(file) = found.cloned() else {
        return head(&mut stream, "404 Not Found", 0, "");
    };
    let mut bytes = file.bytes;
    if manners.falsified == file.path {
        bytes[0] ^= 1;
    }
    let from = range.filter(|_| !manners.ranges_ignored);
    let from: usize = from.map_or(0, |range| range[6..range.len() - 1].parse().unwrap());
    let all = bytes.len();
    let bytes = &bytes[from.min(all)..];
    let (status, extra) = match from {
        0 => ("200 OK", String::new()),
        _ => (
            "206 Partial",
            format!("Content-Range: bytes {from}-{}/{all}\r\n", all - 1),
        ),
    };
    head(&mut stream, status, bytes.len(), &extra)?;
    match &mut manners.break_after {
        Some((most, times)) if *times > 0 && bytes.len() > *most => {
            *times -= 1;
            stream.write_all(&bytes[..*most])
        }
        _ => stream.write_all(bytes),
    }
}

fn head(stream: &mut TcpStream, status: &str, length: usize, extra: &str) -> std::io::Result<()> {
    let fixed = "Connection: close\r\n";
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{fixed}{extra}\r\n"
    )
}

fn listing(manners: &Manners) -> String {
    let siblings: Vec<String> = manners.files.iter().map(|file| {
        let size = file.bytes.len() as i64 + manners.size_change;
        let (path, sum) = (&file.path, file.sum());
        match file.large {
            true => format!(
                r#"{{"rfilename": "{path}", "size": {size}, "blobId": "{COMMIT}", "lfs": {{"sha256": "{sum}", "size": {size}}}}}"#
            ),
            false => format!(r#"{{"rfilename": "{path}", "size": {size}, "blobId": "{sum}"}}"#),
        }
    }).collect();
    format!(
        r#"{{"id": "owner/small-model", "sha": "{COMMIT}", "siblings": [{}]}}"#,
        siblings.join(", ")
    )
}
