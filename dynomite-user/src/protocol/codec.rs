//! Either protocol behind one face: what the shell holds for each connection.

use super::Protocol;
use super::commands::*;
use super::reply::{Expect, Scanned};
use super::request::{Decoded, Limits, Request};
use super::resp::resp3::Shape;

#[derive(Debug, Default)]
pub struct Decoder;

static ROW: Command = Command {
    name: "get",
    verb: Verb(0),
    arity: 2,
    keys: Keys::At(1),
    kind: Kind::Read,
    routing: Routing::Normal,
    across: Across::OneOwner,
    shape: Shape::Same,
    c_peer: CPeer::Never,
    fast: true,
    tally: Tally::Get,
};

impl Decoder {
    pub fn new(_protocol: Protocol) -> Decoder {
        Decoder
    }

    pub fn decode<'a>(&'a mut self, inbox: &'a [u8], _limits: &Limits) -> Decoded<'a> {
        let Some((args, mut at)) = number(inbox, 0) else { return Decoded::Incomplete { need: inbox.len() + 1 } };
        for _ in 0..args {
            let Some((len, next)) = number(inbox, at) else { return Decoded::Incomplete { need: inbox.len() + 1 } };
            at = next + len + 2;
            if at > inbox.len() {
                return Decoded::Incomplete { need: at };
            }
        }
        Decoded::Request {
            consumed: at,
            request: Request {
                frame: &inbox[..at],
                command: &ROW,
                args: args as u32,
                key: None,
                quiet: false,
                verbatim: true,
                protocol: Protocol::Resp,
            },
        }
    }

    pub fn again(&mut self) {}
}

fn number(inbox: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut value = 0;
    for (n, &byte) in inbox.get(at + 1..)?.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value * 10 + usize::from(byte - b'0'),
            b'\r' => return (inbox.len() > at + n + 2).then_some((value, at + n + 3)),
            _ => return None,
        }
    }
    None
}

#[derive(Debug, Default)]
pub struct ReplyScanner;

impl ReplyScanner {
    pub fn new(_protocol: Protocol, _reply_bytes_max: usize) -> ReplyScanner {
        ReplyScanner
    }

    pub fn scan(&mut self, expect: Expect, inbox: &[u8]) -> Scanned {
        if inbox[0] == b'*' {
            let Some((count, mut at)) = number(inbox, 0) else { return Scanned::Incomplete { need: inbox.len() + 1 } };
            for _ in 0..count {
                if at >= inbox.len() {
                    return Scanned::Incomplete { need: at + 1 };
                }
                match self.scan(expect, &inbox[at..]) {
                    Scanned::Reply { len, .. } => at += len,
                    other => return other,
                }
            }
            return Scanned::Reply { len: at, is_error: false };
        }
        if inbox[0] == b'$' && inbox.get(1) != Some(&b'-') {
            return match number(inbox, 0) {
                Some((len, at)) if inbox.len() >= at + len + 2 => Scanned::Reply { len: at + len + 2, is_error: false },
                Some((len, at)) => Scanned::Incomplete { need: at + len + 2 },
                None => Scanned::Incomplete { need: inbox.len() + 1 },
            };
        }
        match memchr::memchr(b'\n', inbox) {
            Some(at) => Scanned::Reply { len: at + 1, is_error: inbox[0] == b'-' },
            None => Scanned::Incomplete { need: inbox.len() + 1 },
        }
    }
}
