//! Reads of many keys whose owners differ: one request → a fragment for each owner, their replies → one.
//! Owns: the order of keys. Knows nothing of: owners; they are values that the caller compares.

use std::collections::BTreeMap;

use super::commands::{Form, row};
use super::line::{Words, split_line, unsigned};
use crate::protocol::request::Request;

/// A request taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Split<O> {
    /// In the order in which the owners first appear among the keys.
    pub fragments: Vec<Fragment<O>>,
    /// For every key of the request, in its order, which fragment asks for it.
    pub places: Vec<u32>,
}

/// What one owner is asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Fragment<O> {
    pub owner: O,
    /// A whole request with this owner's keys, doubled ones kept, in the order in which they came.
    pub frame: Vec<u8>,
}

/// The keys of a multi-key read, as they stand in the line.
pub fn keys<'a>(request: &Request<'a>) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
    Words::of(request.frame).skip(words_before_keys(request))
}

fn words_before_keys(request: &Request<'_>) -> usize {
    if row(request.command).form == Form::GetAndTouch { 2 } else { 1 }
}

/// Takes a `get`, `gets`, `gat` or `gats` apart by the owners of its keys.
pub fn split<O: Copy + Eq>(request: &Request<'_>, mut owner_of: impl FnMut(&[u8]) -> O) -> Split<O> {
    let mut words = Words::of(request.frame);
    let mut head = Vec::new();
    for (place, word) in words.by_ref().take(words_before_keys(request)).enumerate() {
        if place > 0 {
            head.push(b' ');
        }
        head.extend_from_slice(word);
    }
    let mut split = Split { fragments: Vec::<Fragment<O>>::new(), places: Vec::new() };
    for key in words {
        let owner = owner_of(key);
        let place = split.fragments.iter().position(|fragment| fragment.owner == owner).unwrap_or_else(|| {
            split.fragments.push(Fragment { owner, frame: head.clone() });
            split.fragments.len() - 1
        });
        let frame = &mut split.fragments[place].frame;
        frame.push(b' ');
        frame.extend_from_slice(key);
        split.places.push(place as u32);
    }
    for fragment in &mut split.fragments {
        fragment.frame.extend_from_slice(b"\r\n");
    }
    split
}

/// Joins the fragments' replies: the values in the order of the request's keys, keys without one left out. A fragment that
/// failed fails the whole, as memcached has no word for half an answer.
pub fn merge<'a>(keys: impl Iterator<Item = &'a [u8]> + Clone, places: &[u32], replies: &[&[u8]], out: &mut Vec<u8>) {
    if let Some(error) = replies.iter().find(|reply| !reply.starts_with(b"VALUE ") && !reply.starts_with(b"END")) {
        return out.extend_from_slice(error);
    }
    let start = out.len();
    let mut left: Vec<Values<'_>> = replies.iter().map(|reply| Values { rest: reply }).collect();
    for (key, &place) in keys.clone().zip(places) {
        let Some(values) = left.get_mut(place as usize) else { continue };
        // Replies keep the order of their request: the next value is this key's, or this key has none.
        let mut ahead = values.clone();
        if let Some((_, value)) = ahead.next().filter(|(next, _)| *next == key) {
            out.extend_from_slice(value);
            *values = ahead;
        }
    }
    if left.into_iter().any(|mut values| values.next().is_some()) {
        out.truncate(start);
        in_any_order(keys, places, replies, out);
    }
    out.extend_from_slice(b"END\r\n");
}

/// For a datastore that answers in an order of its own.
fn in_any_order<'a>(keys: impl Iterator<Item = &'a [u8]>, places: &[u32], replies: &[&[u8]], out: &mut Vec<u8>) {
    let values: Vec<BTreeMap<&[u8], &[u8]>> = replies.iter().map(|reply| Values { rest: reply }.collect()).collect();
    for (key, &place) in keys.zip(places) {
        if let Some(value) = values.get(place as usize).and_then(|values| values.get(key)) {
            out.extend_from_slice(value);
        }
    }
}

/// The `VALUE` blocks of a reply: each one's key, and all of its bytes.
#[derive(Clone)]
struct Values<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Values<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (text, head) = split_line(self.rest)?;
        let mut words = Words::of_line(self.rest[..text].strip_prefix(b"VALUE ")?);
        let key = words.next()?;
        let bytes = words.nth(1).and_then(unsigned)?;
        let len = head.checked_add(usize::try_from(bytes).ok()?)?.checked_add(2)?;
        let (value, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some((key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Decoder;
    use super::*;
    use crate::protocol::request::{Decoded, Limits};

    /// Splits by the keys' first letters, answers each fragment from `items`, merges; lines are written with `|` for CR LF.
    fn check(sent: &str, items: &str, fragments: &[&str], merged: &str) {
        let sent = sent.replace('|', "\r\n");
        let mut decoder = Decoder::default();
        let Decoded::Request { request, .. } = decoder.decode(sent.as_bytes(), &Limits::default()) else {
            panic!("{sent:?}")
        };
        let split = split(&request, |key| key[0]);
        let frames: Vec<String> = split
            .fragments
            .iter()
            .map(|fragment| String::from_utf8_lossy(&fragment.frame).replace("\r\n", "|"))
            .collect();
        assert_eq!(frames, fragments);
        let replies: Vec<Vec<u8>> = split.fragments.iter().map(|fragment| answer(&fragment.frame, items)).collect();
        let replies: Vec<&[u8]> = replies.iter().map(Vec::as_slice).collect();
        let mut out = Vec::new();
        merge(keys(&request), &split.places, &replies, &mut out);
        assert_eq!(String::from_utf8_lossy(&out).replace("\r\n", "|"), merged, "{sent:?}");
    }

    /// What a datastore with `items` says: `key=data` each, or `key!error`.
    fn answer(frame: &[u8], items: &str) -> Vec<u8> {
        let text = String::from_utf8_lossy(frame);
        let mut reply = String::new();
        for key in text.split_whitespace().skip(1) {
            for item in items.split(' ') {
                if let Some(error) = item.strip_prefix(key).and_then(|rest| rest.strip_prefix('!')) {
                    return format!("SERVER_ERROR {error}\r\n").into_bytes();
                }
                if let Some(data) = item.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')) {
                    reply += &format!("VALUE {key} 0 {} 7\r\n{data}\r\n", data.len());
                }
            }
        }
        (reply + "END\r\n").into_bytes()
    }

    #[test]
    fn values_come_in_the_order_of_the_keys() {
        check(
            "get a1 b1 a2|",
            "a2=y b1=zz a1=x",
            &["get a1 a2|", "get b1|"],
            "VALUE a1 0 1 7|x|VALUE b1 0 2 7|zz|VALUE a2 0 1 7|y|END|",
        );
        check("get a1 b1 c1|", "b1=END", &["get a1|", "get b1|", "get c1|"], "VALUE b1 0 3 7|END|END|");
        check("get a1 b1|", "", &["get a1|", "get b1|"], "END|");
        check("gats 10  a1  b1|", "b1=x", &["gats 10 a1|", "gats 10 b1|"], "VALUE b1 0 1 7|x|END|");
        check("get a1|", "a1=x", &["get a1|"], "VALUE a1 0 1 7|x|END|");
    }

    #[test]
    fn a_key_asked_twice_is_answered_twice() {
        check(
            "get a1 b1 a1 a2|",
            "a1=x b1=y",
            &["get a1 a1 a2|", "get b1|"],
            "VALUE a1 0 1 7|x|VALUE b1 0 1 7|y|VALUE a1 0 1 7|x|END|",
        );
    }

    #[test]
    fn a_fragment_that_failed_fails_the_whole() {
        check("get a1 b1|", "a1=x b1!away", &["get a1|", "get b1|"], "SERVER_ERROR away|");
    }

    #[test]
    fn a_datastore_may_answer_in_an_order_of_its_own() {
        let keys: [&[u8]; 3] = [b"a", b"c", b"b"];
        let mut out = Vec::new();
        let reply = b"VALUE b 0 1\r\ny\r\nVALUE a 0 1\r\nx\r\nEND\r\n";
        merge(keys.into_iter(), &[0, 0, 0], &[reply], &mut out);
        assert_eq!(out, b"VALUE a 0 1\r\nx\r\nVALUE b 0 1\r\ny\r\nEND\r\n");
    }
}
