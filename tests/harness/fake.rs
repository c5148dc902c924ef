//! A datastore that does what a test tells it to: answers late, wrongly, in pieces, or not at all.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::address::{DATASTORE_PORT, Host};
use crate::resp::Value;

/// What the fake does about one request.
pub enum Answer {
    Reply(Vec<u8>),
    /// The same, but late. What was asked on this connection meanwhile waits behind it.
    After(Duration, Vec<u8>),
    /// Says this much and hangs up.
    HangUp(Vec<u8>),
}

pub struct Fake {
    pub host: Host,
    stopped: Arc<AtomicBool>,
}

impl Fake {
    /// Listens and answers each RESP request, given as its words, with what `answer` says.
    pub fn start(answer: impl Fn(&[String]) -> Answer + Send + Sync + 'static) -> Fake {
        let host = Host::fresh();
        let listener = TcpListener::bind(host.port(DATASTORE_PORT)).expect("a fresh address is free");
        let stopped = Arc::new(AtomicBool::new(false));
        let (answer, stop) = (Arc::new(answer), stopped.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let answer = answer.clone();
                std::thread::spawn(move || serve(stream, answer.as_ref()));
            }
        });
        Fake { host, stopped }
    }

    pub fn address(&self) -> SocketAddr {
        self.host.port(DATASTORE_PORT)
    }

    /// What `servers:` says about it.
    pub fn server(&self) -> String {
        format!("{}:1", self.address())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address());
    }
}

fn serve(mut stream: TcpStream, answer: &(impl Fn(&[String]) -> Answer + ?Sized)) {
    let _ = stream.set_nodelay(true);
    let (mut inbox, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        while let Some((request, len)) = Value::parse(&inbox) {
            inbox.drain(..len);
            let words: Vec<String> = request.elements().iter().map(Value::text).collect();
            // The node, and whoever waits for it, may ask whether anybody is there.
            let told = match words.first() {
                Some(word) if word.eq_ignore_ascii_case("ping") => Answer::Reply(b"+PONG\r\n".to_vec()),
                _ => answer(&words),
            };
            let (bytes, goes_on) = match told {
                Answer::Reply(bytes) => (bytes, true),
                Answer::After(time, bytes) => {
                    std::thread::sleep(time);
                    (bytes, true)
                }
                Answer::HangUp(bytes) => (bytes, false),
            };
            if stream.write_all(&bytes).is_err() || !goes_on {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(len) => inbox.extend_from_slice(&buffer[..len]),
        }
    }
}
