//! A SCAN that walks every owner of a rack, one after the other.
//! Owns: the cursor that a client gets to see: a rack's number, an owner's number there, and that owner's own cursor in one.
//!
//! These stand in the low bits. A datastore's cursor is below the size of its hash table, so that the whole stays within
//! what clients take for a number, and a change of topology in mid-scan leaves the other owners' cursors alone.

use super::arguments::Arguments;
use super::encode;
use super::head::{Head, number};
use crate::protocol::request::Request;

const OWNER_BITS: u32 = 12;
const PLACE_BITS: u32 = 8;
const RESTART_BITS: u32 = 2;
const BITS: u32 = OWNER_BITS + PLACE_BITS + RESTART_BITS;

/// Owners of one rack that a cursor can tell apart.
pub const OWNERS_MAX: usize = 1 << OWNER_BITS;

/// Which owner is asked, and with which cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// A rack, counted from 1; 0 at the very start.
    pub place: u8,
    pub owner: usize,
    /// The owner's own.
    pub inner: u64,
    /// How often all began anew in another rack.
    pub restarts: u8,
}

impl Cursor {
    pub const START: Cursor = Cursor { place: 0, owner: 0, inner: 0, restarts: 0 };

    /// The start of another walk after this one. `None`: there were too many.
    pub fn anew(self) -> Option<Cursor> {
        let restarts = self.restarts + 1;
        (restarts < 1 << RESTART_BITS).then_some(Cursor { restarts, ..Cursor::START })
    }

    /// What a client sent. `None`: it is no cursor.
    pub fn read(request: &Request<'_>) -> Option<Cursor> {
        let text = std::str::from_utf8(request.argument(1)?).ok()?;
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let packed: u64 = text.parse().ok().filter(|_| digits)?;
        Some(Cursor {
            owner: packed as usize % OWNERS_MAX,
            place: (packed >> OWNER_BITS) as u8,
            restarts: (packed >> (OWNER_BITS + PLACE_BITS)) as u8 % (1 << RESTART_BITS),
            inner: packed >> BITS,
        })
    }

    /// What is shown to the client; 0 only at the very start and end.
    fn packed(self) -> u64 {
        let above = u64::from(self.restarts) << PLACE_BITS | u64::from(self.place);
        self.inner << BITS | above << OWNER_BITS | self.owner as u64
    }

    /// The request as this owner is to get it.
    pub fn frame(self, request: &Request<'_>, out: &mut Vec<u8>) {
        encode::array_head(request.args as usize, out);
        for (at, argument) in request.arguments().enumerate() {
            match at {
                1 => encode::bulk(self.inner.to_string().as_bytes(), out),
                _ => encode::bulk(argument, out),
            }
        }
    }

    /// Appends this owner's reply with the cursor that leads on: within this owner, to the next of `owners`, or to the
    /// end. Anything but a cursor and elements, an error for instance, is passed on.
    pub fn reply(self, reply: &[u8], owners: usize, out: &mut Vec<u8>) {
        let Some((inner, rest)) = split_cursor(reply) else { return out.extend_from_slice(reply) };
        let next = match inner {
            0 if self.owner + 1 < owners.min(OWNERS_MAX) => Cursor { owner: self.owner + 1, inner: 0, ..self }.packed(),
            0 => 0,
            inner => Cursor { inner, ..self }.packed(),
        };
        encode::array_head(2, out);
        encode::bulk(next.to_string().as_bytes(), out);
        out.extend_from_slice(rest);
    }
}

/// The datastore's cursor and the bytes behind it.
fn split_cursor(reply: &[u8]) -> Option<(u64, &[u8])> {
    let Head::Number { value: 2, next } = number(reply, 1) else { return None };
    let cursor = Arguments::of(reply).next().filter(|_| reply.starts_with(b"*"))?;
    let inner: u64 = std::str::from_utf8(cursor).ok()?.parse().ok()?;
    // Nothing may be lost at the top: no hash table is that large.
    (inner >> (64 - BITS) == 0).then_some(())?;
    match number(reply, next + 1) {
        Head::Number { next, .. } => Some((inner, reply.get(next + cursor.len() + 2..)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::request::{Decoded, Limits};
    use crate::protocol::resp::decode::Decoder;

    /// Scans as a client does, from 0 to 0, over owners that each tell their cursors and elements in turn.
    #[test]
    fn every_owner_is_walked_to_its_end() {
        let owners: [&[(u64, &str)]; 3] = [&[(0, "a"), (6, "b"), (3, "c")], &[(0, "d")], &[(0, ""), (1 << 40, "e")]];
        let (mut cursor, mut seen, mut asked) = ("0".to_string(), String::new(), 0);
        loop {
            let line = format!("SCAN {cursor} count 10\r\n");
            let mut decoder = Decoder::default();
            let Decoded::Request { request, .. } = decoder.decode(line.as_bytes(), &Limits::default()) else {
                panic!()
            };
            let at = Cursor { place: 7, ..Cursor::read(&request).unwrap() };
            assert!(asked == 0 || Cursor::read(&request) == Some(at));
            let pages = owners[at.owner];
            let page = pages.iter().position(|(cursor, _)| *cursor == at.inner).unwrap();
            let mut frame = Vec::new();
            at.frame(&request, &mut frame);
            let inner = at.inner.to_string();
            let expected = format!("*4\r\n$4\r\nSCAN\r\n${}\r\n{inner}\r\n$5\r\ncount\r\n$2\r\n10\r\n", inner.len());
            assert_eq!(String::from_utf8(frame).unwrap(), expected);
            let next = pages.get(page + 1).map_or(0, |(cursor, _)| *cursor).to_string();
            let elements = format!("*1\r\n$1\r\n{}\r\n", pages[page].1);
            let mut reply = Vec::new();
            at.reply(format!("*2\r\n${}\r\n{next}\r\n{elements}", next.len()).as_bytes(), owners.len(), &mut reply);
            assert!(reply.ends_with(elements.as_bytes()));
            cursor = String::from_utf8(Arguments::of(&reply).next().unwrap().to_vec()).unwrap();
            seen += pages[page].1;
            asked += 1;
            if cursor == "0" {
                break;
            }
        }
        assert_eq!((seen.as_str(), asked), ("abcde", 6));
    }

    #[test]
    fn a_walk_begins_anew_a_few_times() {
        let again = |cursor: &Cursor| Cursor { place: 240, owner: OWNERS_MAX - 1, inner: 1 << 41, ..*cursor }.anew();
        let walks: Vec<_> = std::iter::successors(Some(Cursor::START), again).collect();
        assert_eq!(walks.len(), 4);
        for walk in walks {
            let cursor = Cursor { place: 240, owner: OWNERS_MAX - 1, inner: 1 << 41, ..walk };
            let line = format!("scan {}\r\n", cursor.packed());
            let mut decoder = Decoder::default();
            let Decoded::Request { request, .. } = decoder.decode(line.as_bytes(), &Limits::default()) else {
                panic!("{line}")
            };
            assert_eq!(Cursor::read(&request), Some(cursor));
        }
    }

    #[test]
    fn what_is_no_cursor() {
        for word in ["x", "-1", "+1", "99999999999999999999", "\"\""] {
            let line = format!("scan {word}\r\n");
            let mut decoder = Decoder::default();
            let Decoded::Request { request, .. } = decoder.decode(line.as_bytes(), &Limits::default()) else {
                panic!()
            };
            assert_eq!(Cursor::read(&request), None, "{word}");
        }
        for reply in ["-ERR invalid cursor\r\n", "*0\r\n", "*-1\r\n", "*2\r\n:1\r\n*0\r\n", "$1\r\n0\r\n", ""] {
            let mut out = Vec::new();
            Cursor { owner: 1, ..Cursor::START }.reply(reply.as_bytes(), 3, &mut out);
            assert_eq!(out, reply.as_bytes());
        }
    }
}
