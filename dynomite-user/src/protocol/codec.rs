//! Either protocol behind one face: what the shell holds for each connection.

use super::reply::{Expect, Scanned};
use super::request::{Decoded, Limits};
use super::{Protocol, memcache, resp};

/// Finds requests at the head of an inbox; remembers how far it looked into one that is not whole.
pub enum Decoder {
    Resp(resp::decode::Decoder),
    /// Boxed: it holds a key's worth of room, and most clients speak RESP.
    Memcache(Box<memcache::Decoder>),
}

impl Decoder {
    pub fn new(protocol: Protocol) -> Decoder {
        match protocol {
            Protocol::Resp => Decoder::Resp(resp::decode::Decoder::default()),
            Protocol::Memcache => Decoder::Memcache(Box::default()),
        }
    }

    #[inline]
    pub fn decode<'a>(&'a mut self, inbox: &'a [u8], limits: &Limits) -> Decoded<'a> {
        match self {
            Decoder::Resp(decoder) => decoder.decode(inbox, limits),
            Decoder::Memcache(decoder) => decoder.decode(inbox, limits),
        }
    }
}

/// Did a limit on requests make a decoder refuse with this error?
pub fn is_of_a_limit(error: &[u8]) -> bool {
    resp::refuse::is_of_a_limit(error) || memcache::decode::is_of_a_limit(error)
}

/// Finds replies at the head of an inbox; remembers how far it looked into one that is not whole.
#[derive(Debug)]
pub enum ReplyScanner {
    Resp(resp::scan::ReplyScanner),
    Memcache(memcache::ReplyScanner),
}

impl ReplyScanner {
    pub fn new(protocol: Protocol) -> ReplyScanner {
        match protocol {
            Protocol::Resp => ReplyScanner::Resp(resp::scan::ReplyScanner::default()),
            Protocol::Memcache => ReplyScanner::Memcache(memcache::ReplyScanner::default()),
        }
    }

    #[inline]
    pub fn scan(&mut self, expect: Expect, inbox: &[u8]) -> Scanned {
        match self {
            ReplyScanner::Resp(scanner) => scanner.scan(inbox),
            ReplyScanner::Memcache(scanner) => scanner.scan(expect, inbox),
        }
    }

    /// What is here of a reply that is not whole will not be looked at: so many bytes may go.
    pub fn pass_over(&mut self, inbox: &[u8]) -> usize {
        match self {
            ReplyScanner::Resp(scanner) => scanner.pass_over(inbox),
            ReplyScanner::Memcache(scanner) => scanner.pass_over(inbox),
        }
    }
}
