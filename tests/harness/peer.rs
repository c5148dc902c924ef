//! The other end of connections between nodes: messages as C nodes write them, and a C node that does what a test says.
//! Written apart from the daemon's own parser, so that one can judge the other.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::address::{Host, PEER_PORT};
use crate::client::Client;
use crate::resp::Value;

/// REQ, REQ_FORWARD and RES.
pub const EXECUTE: u8 = 3;
pub const FORWARD: u8 = 4;
pub const REPLY: u8 = 5;

#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub id: u64,
    pub kind: u8,
    pub version: u8,
    pub same_datacenter: bool,
    pub payload: Value,
}

/// A message as a C node writes it.
pub fn message(kind: u8, id: u64, same_datacenter: bool, payload: &[u8]) -> Vec<u8> {
    let near = u8::from(same_datacenter);
    let mut bytes = format!("   $2014$ {id} {kind} 0 1 {near} *1 d *{}\r\n", payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

impl Message {
    /// The first message of `bytes` and how many bytes it takes; `None` if it is not all there. Panics on what is none.
    pub fn parse(bytes: &[u8]) -> Option<(Message, usize)> {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let words: Vec<&str> = head.strip_prefix("   $2014$ ").expect("a head").split(' ').collect();
        let [id, kind, "0", version, near, "*1", "d", len] = words[..] else { panic!("no head: {head}") };
        let (payload, used) = Value::parse(bytes.get(end + 2..).filter(|rest| !rest.is_empty())?)?;
        assert_eq!(len, format!("*{used}"), "the length is right");
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let message = Message {
            id: number(id),
            kind: number(kind) as u8,
            version: number(version) as u8,
            same_datacenter: number(near) == 1,
            payload,
        };
        Some((message, end + 2 + used))
    }
}

impl Client {
    /// The next message, on a connection to a peer port.
    #[track_caller]
    pub fn message(&mut self) -> Message {
        self.next_of(Message::parse)
    }
}

/// What a fake C node does about one request.
pub enum Said {
    /// Answers it, as C nodes do.
    Reply(Vec<u8>),
    /// Writes exactly this.
    Raw(Vec<u8>),
    Nothing,
    HangUp,
}

/// A node that behaves like a C one, as far as its peers can see.
pub struct FakePeer {
    pub host: Host,
    heard: Arc<Mutex<Vec<Message>>>,
    stopped: Arc<AtomicBool>,
}

impl FakePeer {
    pub fn start(host: Host, answer: impl Fn(&Message) -> Said + Send + Sync + 'static) -> FakePeer {
        let listener = TcpListener::bind(host.port(PEER_PORT)).expect("the address is free");
        let (heard, stopped) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (answer, log, stop) = (Arc::new(answer), heard.clone(), stopped.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (answer, log) = (answer.clone(), log.clone());
                std::thread::spawn(move || serve(stream, answer.as_ref(), &log));
            }
        });
        FakePeer { host, heard, stopped }
    }

    /// What it was asked so far, greetings apart: kind, and the words.
    pub fn heard(&self) -> Vec<(u8, String)> {
        let heard = self.heard.lock().expect("nobody panics with it");
        let words = |message: &Message| {
            let words: Vec<String> = message.payload.elements().iter().map(Value::text).collect();
            (message.kind, words.join(" "))
        };
        heard.iter().map(words).filter(|(_, words)| words != "PING").collect()
    }
}

impl Drop for FakePeer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.host.port(PEER_PORT));
    }
}

fn serve(mut stream: TcpStream, answer: &(impl Fn(&Message) -> Said + ?Sized), heard: &Mutex<Vec<Message>>) {
    let _ = stream.set_nodelay(true);
    let (mut inbox, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        while let Some((message, len)) = Message::parse(&inbox) {
            inbox.drain(..len);
            let said = answer(&message);
            let (id, near) = (message.id, message.same_datacenter);
            heard.lock().expect("nobody panics with it").push(message);
            let bytes = match said {
                Said::Reply(payload) => self::message(REPLY, id, near, &payload),
                Said::Raw(bytes) => bytes,
                Said::Nothing => Vec::new(),
                Said::HangUp => return,
            };
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(len) => inbox.extend_from_slice(&buffer[..len]),
        }
    }
}
