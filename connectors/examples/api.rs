//! Serves the API of a job that lives in memory, for scripts that examine it: `api LISTEN [KEYS]`.
//!
//! With `KEYS` there are a key `reader` and a key `admin`, which may both read.

#![allow(clippy::print_stderr)]

#[path = "../tests/api/memory.rs"]
#[allow(dead_code)]
mod memory;

use usher_connectors::serve::{Key, Options, Server, bind};

fn main() {
    let mut args = std::env::args().skip(1);
    let listen = args.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let key = |token: &str, admin| Key { token: token.to_owned(), read: true, admin };
    let keys = if args.next().is_some() { vec![key("reader", false), key("admin", true)] } else { Vec::new() };
    let memory = memory::Memory::live();
    memory.published.reflect("web", "events.jsonl", 1000, 0);
    let many: Vec<String> = (0..100_000).map(|user| format!("user-{user}")).collect();
    let changes: Vec<_> = many.iter().map(|user| ("seen", &user[..], true)).collect();
    memory.change(&changes);
    let listener = bind(&listen, 0).expect("the port is free");
    let options = Options { keys, ..Options::default() };
    let server = Server::start(options, memory.published.clone(), memory.engine(), listener).expect("it starts");
    eprintln!("http://{}", server.address());
    loop {
        std::thread::park();
    }
}
