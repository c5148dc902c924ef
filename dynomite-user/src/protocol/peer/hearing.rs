//! The end of a connection between nodes that is asked: bytes → requests and gossip.
//! Owns: the place in a request that is still arriving. Knows nothing of: sockets, owners, replies. Those are the
//! `Responder`'s, a value of its own: a request may be answered while its bytes are still borrowed from here.

use super::decode::{GossipScan, Scan, gossip, next_head, scan};
use super::header::Message;
use super::order::Question;
use crate::protocol::Protocol;
use crate::protocol::codec::Decoder;
use crate::protocol::reply::write_error;
use crate::protocol::request::{Decoded, Limits, Request};

pub struct Hearing {
    protocol: Protocol,
    decoder: Decoder,
}

/// What an inbox begins with. Advance it by `consumed` and look again.
#[derive(Debug)]
pub enum Heard<'a> {
    /// `Execute` or `Forward`. `Responder::asked` hears of the question before the coordinator hears of the request.
    Request { consumed: usize, question: Question, message: Message, request: Request<'a> },
    /// The same; to be answered with `error` in its turn.
    Refused { consumed: usize, question: Question, error: Vec<u8> },
    /// To be answered with `error` in its turn; then close. What is left of the request is data of some client: a head
    /// found in there is that client's, too.
    Broken { question: Question, error: Vec<u8> },
    /// Not answered.
    Gossip { consumed: usize, payload: &'a [u8] },
    /// No message, or one without a meaning: count it.
    Garbage { consumed: usize },
    /// Nothing more can be known before the inbox holds `need` bytes (> what it holds now).
    Incomplete { need: usize },
    /// The sender has keys and we have none: count it, close.
    Encrypted,
}

impl Hearing {
    pub fn new(protocol: Protocol) -> Hearing {
        Hearing { protocol, decoder: Decoder::new(protocol) }
    }

    pub fn hear<'a>(&'a mut self, inbox: &'a [u8], limits: &Limits) -> Heard<'a> {
        let (header, head) = match scan(inbox) {
            Scan::Incomplete => return Heard::Incomplete { need: inbox.len() + 1 },
            Scan::Garbage { len } => return Heard::Garbage { consumed: len },
            Scan::Head { header, len } => (header, len),
        };
        if header.is_encrypted() {
            return Heard::Encrypted;
        }
        let rest = &inbox[head..];
        if header.message == Message::Gossip {
            return match gossip(&header, rest) {
                GossipScan::Payload { len } => Heard::Gossip { consumed: head + len, payload: &rest[..len] },
                GossipScan::Incomplete { need } => Heard::Incomplete { need: head + need },
                GossipScan::TooLong => Heard::Garbage { consumed: head },
            };
        }
        if !header.message.is_request() {
            return Heard::Garbage { consumed: head };
        }
        let question = Question { id: header.id, same_datacenter: header.same_datacenter };
        // Without a payload it still has a head, and whoever sent it waits for an answer.
        let protocol = self.protocol;
        let refused = |consumed, error| Heard::Refused { consumed: head + consumed, question, error };
        match next_head(rest) {
            Some(true) => return refused(0, empty(protocol)),
            None => return Heard::Incomplete { need: inbox.len() + 1 },
            Some(false) => {}
        }
        match self.decoder.decode(rest, limits) {
            Decoded::Request { consumed, request } => {
                Heard::Request { consumed: head + consumed, question, message: header.message, request }
            }
            Decoded::Refused { consumed, error } => refused(consumed, error),
            Decoded::Broken { error } => Heard::Broken { question, error },
            Decoded::Skip { consumed } => refused(consumed, empty(protocol)),
            Decoded::Incomplete { need } => Heard::Incomplete { need: head + need },
        }
    }
}

fn empty(protocol: Protocol) -> Vec<u8> {
    let mut error = Vec::new();
    write_error(protocol, "empty request", &mut error);
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::peer::Responder;

    /// Hears all of `bytes`, as they are and byte by byte; takes requests and refusals and answers with their number.
    fn check(bytes: &[u8], expected: &[&str], replies: &str) {
        for step in [bytes.len(), 1] {
            let mut hearing = Hearing::new(Protocol::Resp);
            let (mut heard, mut inbox, mut garbage) = (Vec::new(), Vec::new(), 0);
            let mut questions = Vec::new();
            'all: for piece in bytes.chunks(step) {
                inbox.extend_from_slice(piece);
                loop {
                    let (consumed, text) = match hearing.hear(&inbox, &Limits::default()) {
                        Heard::Incomplete { need } => {
                            assert!(need > inbox.len());
                            break;
                        }
                        Heard::Encrypted => {
                            heard.push("encrypted".to_owned());
                            break;
                        }
                        Heard::Garbage { consumed } => {
                            garbage += consumed;
                            (consumed, None)
                        }
                        Heard::Gossip { consumed, payload } => (consumed, Some(payload.escape_ascii().to_string())),
                        Heard::Refused { consumed, question, error } => {
                            questions.push(question);
                            (consumed, Some(error.escape_ascii().to_string()))
                        }
                        Heard::Broken { question, error } => {
                            questions.push(question);
                            heard.push(format!("broken {}", error.escape_ascii()));
                            break 'all;
                        }
                        Heard::Request { consumed, question, message, request } => {
                            questions.push(question);
                            let key = request.key.unwrap_or_default().escape_ascii();
                            (consumed, Some(format!("{message:?} {} {key}", request.command.name)))
                        }
                    };
                    heard.extend(text);
                    inbox.drain(..consumed);
                }
            }
            heard.push(format!("{garbage} garbage"));
            assert_eq!(heard, expected, "in steps of {step}");
            let (mut responder, mut out) = (Responder::default(), Vec::new());
            questions.iter().for_each(|question| responder.asked(*question));
            (0..questions.len()).for_each(|n| responder.answer(format!(":{n}\r\n").as_bytes(), &mut out));
            assert_eq!(String::from_utf8(out).unwrap(), replies);
            assert!(responder.is_empty());
        }
    }

    #[test]
    fn requests_and_their_replies() {
        check(
            b"   $2014$ 5 3 0 1 1 *1 d *62\r\n*3\r\n$3\r\nSET\r\n$3\r\nfoo\r\n$3\r\nbar\r\n   $2014$ 9 4 0 1 0 *1 d *0\r\n*2\r\n$3\r\nget\r\n$1\r\nx\r\n",
            &["Execute set foo", "Forward get x", "0 garbage"],
            "   $2014$ 5 5 0 2 1 *1 d *4\r\n:0\r\n   $2014$ 9 5 0 2 0 *1 d *4\r\n:1\r\n",
        );
    }

    #[test]
    fn what_is_no_request_is_answered_too() {
        check(
            b"   $2014$ 9 3 0 1 1 *1 d *16\r\n*1\r\n$6\r\nfrobni\r\n",
            &["-ERR unknown command \\'frobni\\', with args beginning with: \\r\\n", "0 garbage"],
            "   $2014$ 9 5 0 2 1 *1 d *4\r\n:0\r\n",
        );
        check(
            b"   $2014$ 5 3 0 1 1 *1 d *2\r\n*0\r\n",
            &["-ERR empty request\\r\\n", "0 garbage"],
            "   $2014$ 5 5 0 2 1 *1 d *4\r\n:0\r\n",
        );
    }

    #[test]
    fn behind_a_broken_request_nothing_is_heard() {
        check(
            b"   $2014$ 5 3 0 1 1 *1 d *9\r\n*1\r\n:1\r\n   $2014$ 9 3 0 1 1 *1 d *16\r\n*1\r\n$4\r\nping\r\n",
            &["broken -ERR Protocol error: expected \\'$\\', got \\':\\'\\r\\n", "0 garbage"],
            "   $2014$ 5 5 0 2 1 *1 d *4\r\n:0\r\n",
        );
    }

    #[test]
    fn a_head_without_payload_does_not_swallow_the_next() {
        check(
            b"   $2014$ 5 3 0 1 1 *1 d *0\r\n   $2014$ 9 3 0 1 1 *1 d *14\r\n*1\r\n$4\r\nping\r\n",
            &["-ERR empty request\\r\\n", "Execute ping ", "0 garbage"],
            "   $2014$ 5 5 0 2 1 *1 d *4\r\n:0\r\n   $2014$ 9 5 0 2 1 *1 d *4\r\n:1\r\n",
        );
    }

    #[test]
    fn gossip_and_messages_without_a_meaning() {
        check(
            b"   $2014$ 1 7 0 1 1 *1 a *4\r\nabcd   $2014$ 2 8 0 1 1 *1 d *3\r\nxyz   $2014$ 3 5 0 1 1 *1 d *5\r\n+OK\r\n",
            &["abcd", "66 garbage"],
            "",
        );
    }

    #[test]
    fn encrypted_messages_are_not_for_us() {
        check(b"   $2014$ 1 3 1 1 1 *1 d *4\r\n", &["encrypted", "0 garbage"], "");
    }
}
