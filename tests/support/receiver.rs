//! A receiver of webhooks: an HTTP server in the test's process, which answers as it is let, and folds what it gets.

use crate::support::process::Process;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is taken, and answered with a status and more headers.
    Taken(u16),
    /// It is taken, at least in part, and answered with a status and a body.
    Answered(u16, String),
    /// It is taken, and the connection closed without an answer.
    TakenSilently,
    /// It is not taken, and answered with a status and more headers, each ended by a newline.
    Refused(u16, &'static str),
    /// It is not taken, and not answered for so many ms.
    Hang(u64),
    /// The connection is closed.
    Reset,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: Instant,
    /// Method and path.
    pub line: String,
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    pub fate: Fate,
}

impl Request {
    /// The messages in its body, which is one or a list of them.
    pub fn messages(&self) -> Vec<serde_json::Value> {
        match serde_json::from_slice(&self.body) {
            Ok(serde_json::Value::Array(messages)) => messages,
            Ok(message) => vec![message],
            Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&self.body)),
        }
    }

    /// Whether the receiver has it.
    pub fn is_taken(&self) -> bool {
        matches!(self.fate, Fate::Taken(_) | Fate::Answered(..) | Fate::TakenSilently)
    }
}

type Decide = dyn FnMut(&Request) -> Fate + Send;

/// The server. Its threads end with the process.
#[derive(Clone)]
pub struct Receiver {
    pub port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    decide: Arc<Mutex<Box<Decide>>>,
}

impl Receiver {
    /// Starts one whose answers `decide` says.
    pub fn start(decide: impl FnMut(&Request) -> Fate + Send + 'static) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let receiver = Receiver { port, requests: Arc::default(), decide: Arc::new(Mutex::new(Box::new(decide))) };
        let server = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let server = server.clone();
                std::thread::spawn(move || server.serve(stream));
            }
        });
        receiver
    }

    /// Starts one that takes all.
    pub fn willing() -> Receiver {
        Receiver::start(|_| Fate::Taken(200))
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// Answers as `decide` says from now on.
    pub fn set(&self, decide: impl FnMut(&Request) -> Fate + Send + 'static) {
        *self.decide.lock().expect("nobody panics with the lock") = Box::new(decide);
    }

    /// What came so far.
    pub fn requests(&self) -> Vec<Request> {
        self.lock().clone()
    }

    /// The messages that it has, in the order in which it got them.
    pub fn taken(&self) -> Vec<serde_json::Value> {
        let requests = self.lock();
        requests.iter().filter(|request| request.is_taken()).flat_map(Request::messages).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().expect("nobody panics with the lock")
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a socket can be cloned"));
        let mut writer = stream;
        while let Some(mut request) = read(&mut reader) {
            let fate = {
                // One at a time: the order of what is taken is that of `requests`.
                let mut decide = self.decide.lock().expect("nobody panics with the lock");
                request.fate = decide(&request);
                self.lock().push(request.clone());
                request.fate
            };
            let answer = match fate {
                Fate::Taken(status) => format!("HTTP/1.1 {status} Taken\r\nContent-Length: 2\r\n\r\nok"),
                Fate::Answered(status, body) => {
                    format!("HTTP/1.1 {status} Taken\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                }
                Fate::Refused(status, headers) => {
                    let headers = headers.replace('\n', "\r\n");
                    format!("HTTP/1.1 {status} No\r\n{headers}Content-Length: 10\r\n\r\nnot now ok")
                }
                Fate::Hang(ms) => {
                    std::thread::sleep(std::time::Duration::from_millis(ms));
                    return;
                }
                Fate::TakenSilently | Fate::Reset => return,
            };
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    let mut next = |reader: &mut dyn BufRead| -> Option<String> {
        line.clear();
        (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
    };
    let first = next(reader)?;
    let mut headers = BTreeMap::new();
    loop {
        let line = next(reader)?;
        match line.split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => break,
        };
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let line = first.rsplit_once(' ').map_or(first.clone(), |(line, _)| line.to_owned());
    Some(Request { at: Instant::now(), line, headers, body, fate: Fate::Reset })
}

/// The port of a process's API.
pub fn port(process: &Process) -> u16 {
    let stderr = process.stderr();
    let url = stderr.split("api on ").nth(1).and_then(|rest| rest.lines().next()).expect("it has an API");
    url.trim().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a url with a port")
}

/// Asks an API of this machine; returns the status and the body.
pub fn ask(port: u16, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
    let (status, body) = ask_text(port, method, path, body);
    (status, serde_json::from_str(&body).unwrap_or_default())
}

/// Returns the text that an API of this machine answers with.
pub fn get_text(port: u16, path: &str) -> String {
    let (status, body) = ask_text(port, "GET", path, "");
    assert_eq!(status, 200, "{body}");
    body
}

fn ask_text(port: u16, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the API listens");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("the API reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the API answers with text");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
    (status, answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned())
}
