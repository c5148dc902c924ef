//! The end of a connection between nodes that asks: requests → bytes, bytes → whose reply.
//! Owns: what is outstanding and the place in a reply that is still arriving. Knows nothing of: sockets, time.

use super::decode::{Scan, next_head, scan};
use super::encode;
use super::header::Message;
use super::order::Matcher;
use crate::protocol::Protocol;
use crate::protocol::codec::ReplyScanner;
use crate::protocol::reply::{Expect, Reply, Scanned};

/// `T` is what the asker wants back with a reply.
pub struct Asking<T> {
    protocol: Protocol,
    scanner: ReplyScanner,
    matcher: Matcher<(Expect, T)>,
}

/// What an inbox begins with. Advance it by `consumed` and look again.
#[derive(Debug, PartialEq, Eq)]
pub enum Said<'a, T> {
    Reply {
        consumed: usize,
        value: T,
        reply: Reply<'a>,
        /// It comes from a node of ours, which understands whatever we do.
        is_ours: bool,
    },
    /// A reply that nobody waits for, or no reply at all: count it.
    Garbage { consumed: usize },
    /// Nothing more can be known before the inbox holds `need` bytes (> what it holds now).
    Incomplete { need: usize },
    /// A reply that is none, or an encrypted one. Close: nothing that comes behind it can be trusted.
    Broken,
}

impl<T> Asking<T> {
    pub fn new(protocol: Protocol) -> Asking<T> {
        Asking { protocol, scanner: ReplyScanner::new(protocol), matcher: Matcher::default() }
    }

    /// Appends the head of a request, `Execute` or `Forward`; its `payload_len` bytes are to be sent behind it.
    /// `same_datacenter`: as its receiver.
    pub fn ask(
        &mut self,
        message: Message,
        same_datacenter: bool,
        payload_len: usize,
        expect: Expect,
        value: T,
        out: &mut Vec<u8>,
    ) {
        let id = self.matcher.sent((expect, value));
        encode::write_head(message, id, same_datacenter, payload_len, out);
    }

    /// Appends gossip, which nobody answers.
    pub fn tell(&mut self, same_datacenter: bool, payload: &[u8], out: &mut Vec<u8>) {
        encode::write(Message::Gossip, self.matcher.sent_for_good(), same_datacenter, payload, out);
    }

    /// Requests whose reply was passed over are handed to `lost`, oldest first.
    pub fn hear<'a>(&mut self, inbox: &'a [u8], mut lost: impl FnMut(T)) -> Said<'a, T> {
        let (header, head) = match scan(inbox) {
            Scan::Incomplete => return Said::Incomplete { need: inbox.len() + 1 },
            Scan::Garbage { len } => return Said::Garbage { consumed: len },
            Scan::Head { header, len } => (header, len),
        };
        if header.is_encrypted() {
            return Said::Broken;
        }
        if !header.message.is_reply() {
            return Said::Garbage { consumed: head };
        }
        let expect = match (self.matcher.peek(header.id), self.protocol) {
            (Some((expect, _)), _) => *expect,
            (None, Protocol::Resp) => Expect::Resp,
            // Nobody knows how this one ends: what is left of it is garbage up to the next head.
            (None, Protocol::Memcache) => {
                self.matcher.replied(header.id, |_| {});
                return Said::Garbage { consumed: head };
            }
        };
        let rest = &inbox[head..];
        match next_head(rest) {
            // No reply at all, and the next one behind it: whoever waited for it will not hear.
            Some(true) => {
                if let Some((_, value)) = self.matcher.replied(header.id, |(_, value)| lost(value)) {
                    lost(value);
                }
                return Said::Garbage { consumed: head };
            }
            None => return Said::Incomplete { need: inbox.len() + 1 },
            Some(false) => {}
        }
        match self.scanner.scan(expect, rest) {
            Scanned::Reply { len, is_error } => {
                let consumed = head + len;
                match self.matcher.replied(header.id, |(_, value)| lost(value)) {
                    Some((_, value)) => {
                        let reply = Reply { frame: &rest[..len], is_error };
                        Said::Reply { consumed, value, reply, is_ours: header.is_ours() }
                    }
                    None => Said::Garbage { consumed },
                }
            }
            Scanned::Incomplete { need } => Said::Incomplete { need: head + need },
            Scanned::Broken => Said::Broken,
        }
    }

    /// The connection is gone: a fresh start for the next one, and who will not be answered, oldest first. Ids start
    /// again; they mean nothing beyond their connection.
    pub fn restart(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.scanner = ReplyScanner::new(self.protocol);
        let mut gone = std::mem::take(&mut self.matcher);
        let left: Vec<T> = gone.abandon().map(|(_, value)| value).collect();
        self.matcher.mismatches = gone.mismatches;
        left.into_iter()
    }

    pub fn outstanding(&self) -> usize {
        self.matcher.len()
    }

    /// Replies that belonged to nobody and requests passed over, since the start.
    pub fn mismatches(&self) -> u64 {
        self.matcher.mismatches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks three times (1 to 3), then hears `bytes`, as they are and byte by byte.
    fn check(protocol: Protocol, expect: Expect, bytes: &[u8], expected: &[&str]) {
        for step in [bytes.len(), 1] {
            let mut asking = Asking::new(protocol);
            (1..=3).for_each(|n| asking.ask(Message::Execute, true, 9, expect, n, &mut Vec::new()));
            let (mut said, mut inbox, mut garbage) = (Vec::new(), Vec::new(), 0);
            'all: for piece in bytes.chunks(step) {
                inbox.extend_from_slice(piece);
                loop {
                    let mut lost = Vec::new();
                    let (consumed, text) = match asking.hear(&inbox, |value| lost.push(format!("lost {value}"))) {
                        Said::Incomplete { need } => {
                            assert!(need > inbox.len());
                            break;
                        }
                        Said::Broken => {
                            said.push("broken".to_owned());
                            break 'all;
                        }
                        Said::Garbage { consumed } => {
                            garbage += consumed;
                            (consumed, None)
                        }
                        Said::Reply { consumed, value, reply, is_ours } => {
                            let error = if reply.is_error { "!" } else { "" };
                            let ours = if is_ours { " ours" } else { "" };
                            (consumed, Some(format!("{value}={error}{}{ours}", reply.frame.escape_ascii())))
                        }
                    };
                    said.extend(lost);
                    said.extend(text);
                    inbox.drain(..consumed);
                }
            }
            said.extend(asking.restart().map(|value| format!("left {value}")));
            said.push(format!("{garbage} garbage, {} mismatches", asking.mismatches()));
            assert_eq!(said, expected, "in steps of {step}");
        }
    }

    #[test]
    fn what_is_sent() {
        let mut asking = Asking::new(Protocol::Resp);
        let mut out = Vec::new();
        asking.ask(Message::Execute, true, 22, Expect::Resp, (), &mut out);
        asking.tell(true, b"x", &mut out);
        asking.ask(Message::Forward, false, 31, Expect::Resp, (), &mut out);
        assert_eq!(
            out,
            b"   $2014$ 1 3 0 2 1 *1 d *22\r\n   $2014$ 2 7 0 2 1 *1 a *1\r\nx   $2014$ 3 4 0 2 0 *1 d *31\r\n"
        );
    }

    #[test]
    fn replies_find_their_requests() {
        check(
            Protocol::Resp,
            Expect::Resp,
            b"   $2014$ 1 5 0 1 1 *1 d *5\r\n+OK\r\n   $2014$ 2 0 0 1 1 *1 d *37\r\n$2\r\nP2\r\n   $2014$ 3 5 0 2 1 *1 d *9\r\n-ERR no\r\n",
            &["1=+OK\\r\\n", "2=$2\\r\\nP2\\r\\n", "3=!-ERR no\\r\\n ours", "0 garbage, 0 mismatches"],
        );
    }

    #[test]
    fn replies_that_are_lost_or_nobodys() {
        check(
            Protocol::Resp,
            Expect::Resp,
            b"   $2014$ 9 5 0 1 1 *1 d *5\r\n+OK\r\n   $2014$ 2 5 0 1 1 *1 d *5\r\n+OK\r\n   $2014$ 1 5 0 1 1 *1 d *5\r\n+OK\r\n",
            &["lost 1", "2=+OK\\r\\n", "left 3", "68 garbage, 3 mismatches"],
        );
    }

    #[test]
    fn memcached_replies_end_as_their_requests_say() {
        check(
            Protocol::Memcache,
            Expect::Values,
            b"   $2014$ 1 5 0 1 1 *1 d *5\r\nVALUE k 0 5\r\nSTORE\r\nEND\r\n   $2014$ 7 5 0 1 1 *1 d *8\r\nSTORED\r\n   $2014$ 2 5 0 1 1 *1 d *5\r\nEND\r\n",
            &["1=VALUE k 0 5\\r\\nSTORE\\r\\nEND\\r\\n", "2=END\\r\\n", "left 3", "37 garbage, 1 mismatches"],
        );
    }

    #[test]
    fn a_head_without_a_reply_fails_its_request_alone() {
        check(
            Protocol::Resp,
            Expect::Resp,
            b"   $2014$ 1 5 0 1 1 *1 d *0\r\n   $2014$ 2 5 0 1 1 *1 d *5\r\n+OK\r\n",
            &["lost 1", "2=+OK\\r\\n", "left 3", "29 garbage, 0 mismatches"],
        );
    }

    #[test]
    fn broken_replies_end_the_connection() {
        check(
            Protocol::Resp,
            Expect::Resp,
            b"   $2014$ 1 5 0 1 1 *1 d *5\r\nwhat\r\n",
            &["broken", "left 1", "left 2", "left 3", "0 garbage, 0 mismatches"],
        );
        check(
            Protocol::Resp,
            Expect::Resp,
            b"   $2014$ 1 5 1 1 1 *1 d *5\r\n+OK\r\n",
            &["broken", "left 1", "left 2", "left 3", "0 garbage, 0 mismatches"],
        );
    }
}
