//! The replies of several owners → the reply of one.
//! Owns: what must be remembered of a request until its fragments have answered. Knows nothing of: owners, time.

use super::commands::Across;
use super::reply::{Scanned, write_error};
use super::request::Request;
use super::resp::encode;
use super::resp::head::{Head, number};
use super::resp::scan::ReplyScanner;
use super::{Protocol, memcache};

/// How the replies of one request's fragments become one.
#[derive(Debug)]
pub struct Merge {
    across: Across,
    /// For every key of the request, in its order, which fragment asked for it.
    places: Vec<u32>,
    /// The request, where its keys are needed once more (memcached's replies leave out what there is not).
    request: Vec<u8>,
    words_before_keys: usize,
}

/// What is said when owners answer with something that does not fit what was asked.
const NO_FIT: &str = "Dynomite: Replies of several owners do not fit together";

impl Merge {
    /// For a request that every owner gets whole (`keys`, `dbsize`, `flushall`).
    pub fn whole(across: Across) -> Merge {
        Merge::places(across, Vec::new())
    }

    pub(super) fn places(across: Across, places: Vec<u32>) -> Merge {
        Merge { across, places, request: Vec::new(), words_before_keys: 0 }
    }

    pub(super) fn values(request: &Request<'_>, places: Vec<u32>) -> Merge {
        let words_before_keys = request.args as usize - places.len().min(request.args as usize);
        Merge { across: Across::Values, places, request: request.frame.to_vec(), words_before_keys }
    }

    /// Appends one reply. `replies` are the fragments', in their order, each whole and in RESP2. One error is enough
    /// to be the answer: there is no word for half a success.
    pub fn merge(&self, replies: &[&[u8]], out: &mut Vec<u8>) {
        if self.across == Across::Values {
            let keys = memcache::Words::of(&self.request).skip(self.words_before_keys);
            return memcache::merge::merge(keys, &self.places, replies, out);
        }
        if let Some(error) = replies.iter().find(|reply| reply.starts_with(b"-") || memcache::reply::is_error(reply)) {
            return out.extend_from_slice(error);
        }
        let len = out.len();
        let merged = match self.across {
            Across::Array => self.array(replies, out),
            Across::Sum => sum(replies, out),
            Across::Concat => concat(replies, out),
            _ => replies.first().map(|reply| out.extend_from_slice(reply)),
        };
        if merged.is_none() {
            out.truncate(len);
            write_error(Protocol::Resp, NO_FIT, out);
        }
    }

    /// The elements in the order of the keys.
    fn array(&self, replies: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
        let mut elements: Vec<Elements<'_>> = replies.iter().map(|reply| Elements::of(reply)).collect::<Option<_>>()?;
        encode::array_head(self.places.len(), out);
        for &place in &self.places {
            out.extend_from_slice(elements.get_mut(place as usize)?.next()?);
        }
        elements.iter().all(|left| left.rest.is_empty()).then_some(())
    }
}

fn sum(replies: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    let integer = |reply: &[u8]| match (reply.first()?, number(reply, 1)) {
        (b':', Head::Number { value, .. }) => Some(value),
        _ => None,
    };
    let sum = replies.iter().try_fold(0i64, |sum, reply| Some(sum.saturating_add(integer(reply)?)))?;
    encode::integer(sum, out);
    Some(())
}

fn concat(replies: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
    let elements: Vec<Elements<'_>> = replies.iter().map(|reply| Elements::of(reply)).collect::<Option<_>>()?;
    encode::array_head(elements.iter().map(|elements| elements.count).sum(), out);
    elements.iter().for_each(|elements| out.extend_from_slice(elements.rest));
    Some(())
}

/// What stands in an array.
struct Elements<'a> {
    count: usize,
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    fn of(reply: &'a [u8]) -> Option<Elements<'a>> {
        match (reply.first()?, number(reply, 1)) {
            (b'*', Head::Number { value, next }) => {
                Some(Elements { count: usize::try_from(value).ok()?, rest: &reply[next..] })
            }
            _ => None,
        }
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        let Scanned::Reply { len, .. } = ReplyScanner::default().scan(self.rest) else { return None };
        let (element, rest) = self.rest.split_at(len);
        self.rest = rest;
        Some(element)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::request::{Decoded, Limits};
    use crate::protocol::resp::arguments::Arguments;
    use crate::protocol::resp::decode::Decoder;
    use crate::protocol::split::{Split, is_splittable, split};

    /// Takes a request apart by its keys' first letters and joins the replies; `|` stands for CR LF.
    #[track_caller]
    fn check(request: &str, fragments: &[&str], replies: &[&str], merged: &str) {
        let line = format!("{request}\r\n");
        let mut decoder = Decoder::default();
        let Decoded::Request { request: decoded, .. } = decoder.decode(line.as_bytes(), &Limits::default()) else {
            panic!("{request}")
        };
        assert!(is_splittable(decoded.command));
        let Split { fragments: made, merge } = split(&decoded, |key| key[0].into());
        let frames: Vec<String> =
            made.iter().map(|made| String::from_utf8_lossy(&made.frame).replace("\r\n", "|")).collect();
        assert_eq!(frames, fragments);
        let replies: Vec<String> = replies.iter().map(|reply| reply.replace('|', "\r\n")).collect();
        let replies: Vec<&[u8]> = replies.iter().map(String::as_bytes).collect();
        let mut out = Vec::new();
        merge.merge(&replies, &mut out);
        assert_eq!(String::from_utf8_lossy(&out).replace("\r\n", "|"), merged, "{request}");
    }

    #[test]
    fn arrays_come_in_the_order_of_the_keys() {
        check(
            "MGET a1 b1 a2 b1",
            &["*3|$4|mget|$2|a1|$2|a2|", "*3|$4|mget|$2|b1|$2|b1|"],
            &["*2|$1|x|$-1|", "*2|$4|y|z|$4|y|z|"],
            "*4|$1|x|$4|y|z|$-1|$4|y|z|",
        );
    }

    #[test]
    fn values_stay_with_their_keys() {
        check(
            "Mset a1 1 b1 2 a2 ''",
            &["*5|$4|mset|$2|a1|$1|1|$2|a2|$0||", "*3|$4|mset|$2|b1|$1|2|"],
            &["+OK|", "+OK|"],
            "+OK|",
        );
    }

    #[test]
    fn integers_are_added() {
        for name in ["del", "exists", "touch", "unlink"] {
            let len = name.len();
            let fragments = [format!("*3|${len}|{name}|$1|a|$1|a|"), format!("*2|${len}|{name}|$1|b|")];
            let fragments: Vec<&str> = fragments.iter().map(String::as_str).collect();
            check(&format!("{name} a b a"), &fragments, &[":2|", ":1|"], ":3|");
        }
    }

    #[test]
    fn an_error_is_the_answer() {
        let fragments = ["*2|$3|del|$1|a|", "*2|$3|del|$1|b|"];
        check("del a b", &fragments, &[":1|", "-LOADING not yet|"], "-LOADING not yet|");
        check(
            "del a b",
            &fragments,
            &["-ERR Peer: Peer Node is not connected|", "-ERR x|"],
            "-ERR Peer: Peer Node is not connected|",
        );
    }

    #[test]
    fn what_does_not_fit_is_an_error_too() {
        let error = "-ERR Dynomite: Replies of several owners do not fit together|";
        check("del a b", &["*2|$3|del|$1|a|", "*2|$3|del|$1|b|"], &[":1|", "+OK|"], error);
        let fragments = ["*2|$4|mget|$1|a|", "*2|$4|mget|$1|b|"];
        for replies in [["*1|:1|", "*2|:1|:2|"], ["*1|:1|", "*0|"], ["*1|:1|", "*-1|"], ["*1|:1|", ":1|"]] {
            check("mget a b", &fragments, &replies, error);
        }
    }

    #[test]
    fn memcached_values_come_in_the_order_of_the_keys() {
        let mut decoder = memcache::Decoder::default();
        for (line, head) in [("get a1 b1  a2\r\n", "get"), ("gats  10 a1 b1 a2\r\n", "gats 10")] {
            let Decoded::Request { request, .. } = decoder.decode(line.as_bytes(), &Limits::default()) else {
                panic!()
            };
            let Split { fragments, merge } = split(&request, |key| key[0].into());
            let frames: Vec<&[u8]> = fragments.iter().map(|fragment| &fragment.frame[..]).collect();
            let expected = [format!("{head} a1 a2\r\n"), format!("{head} b1\r\n")];
            assert_eq!(frames, expected.iter().map(String::as_bytes).collect::<Vec<_>>());
            assert_eq!(fragments[0].request().keys().collect::<Vec<_>>(), [b"a1", b"a2"]);
            assert_eq!(fragments[1].request().key, Some(&b"b1"[..]));
            let mut out = Vec::new();
            merge.merge(&[b"VALUE a2 0 1\r\ny\r\nEND\r\n", b"VALUE b1 0 1\r\nx\r\nEND\r\n"], &mut out);
            assert_eq!(out, b"VALUE b1 0 1\r\nx\r\nVALUE a2 0 1\r\ny\r\nEND\r\n");
        }
    }

    #[test]
    fn whole_requests() {
        let check = |across: Across, replies: &[&[u8]], merged: &[u8]| {
            let mut out = Vec::new();
            Merge::whole(across).merge(replies, &mut out);
            assert_eq!(out, merged);
        };
        check(
            Across::Concat,
            &[b"*1\r\n$1\r\na\r\n", b"*0\r\n", b"*1\r\n$1\r\nb\r\n"],
            b"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
        );
        check(Across::Concat, &[b"*0\r\n"], b"*0\r\n");
        check(Across::Sum, &[b":3\r\n", b":4\r\n"], b":7\r\n");
        check(Across::Ok, &[b"+OK\r\n", b"+OK\r\n"], b"+OK\r\n");
        check(Across::Ok, &[b"+OK\r\n", b"-READONLY no\r\n"], b"-READONLY no\r\n");
        check(Across::Ok, &[b"OK\r\n", b"OK\r\n"], b"OK\r\n");
        check(Across::Ok, &[b"OK\r\n", b"SERVER_ERROR no\r\n"], b"SERVER_ERROR no\r\n");
    }

    /// A datastore of strings, as far as the commands that can be split go.
    #[derive(Clone, Default)]
    struct Model(BTreeMap<Vec<u8>, Vec<u8>>);

    impl Model {
        fn serve(&mut self, frame: &[u8]) -> Vec<u8> {
            let arguments: Vec<&[u8]> = Arguments::of(frame).collect();
            let mut out = Vec::new();
            match arguments[0].to_ascii_lowercase().as_slice() {
                b"mget" => {
                    encode::array_head(arguments.len() - 1, &mut out);
                    for key in &arguments[1..] {
                        match self.0.get(*key) {
                            Some(value) => encode::bulk(value, &mut out),
                            None => encode::null(encode::Version::Resp2, &mut out),
                        }
                    }
                }
                b"mset" => {
                    for pair in arguments[1..].chunks(2) {
                        self.0.insert(pair[0].to_vec(), pair[1].to_vec());
                    }
                    encode::status("OK", &mut out);
                }
                b"del" | b"unlink" => {
                    let gone = arguments[1..].iter().filter(|key| self.0.remove(**key).is_some()).count();
                    encode::integer(gone as i64, &mut out);
                }
                _ => {
                    let here = arguments[1..].iter().filter(|key| self.0.contains_key(**key)).count();
                    encode::integer(here as i64, &mut out);
                }
            }
            out
        }
    }

    proptest! {
        /// Four datastores behind split and merge answer as one does.
        #[test]
        fn taken_apart_and_joined_is_as_if_whole(
            requests in prop::collection::vec(
                (prop::sample::select(&["mget", "MSET", "del", "exists", "Touch", "unlink"][..]),
                 prop::collection::vec((0u8..12, "\\PC{0,6}"), 1..8)),
                1..20,
            ),
        ) {
            let mut whole = Model::default();
            let mut parts = vec![Model::default(); 4];
            for (name, pairs) in requests {
                let mut words = vec![name.as_bytes().to_vec()];
                for (key, value) in pairs {
                    words.push(vec![b'k', key]);
                    if name == "MSET" {
                        words.push(value.into_bytes());
                    }
                }
                let mut frame = Vec::new();
                encode::array_head(words.len(), &mut frame);
                words.iter().for_each(|word| encode::bulk(word, &mut frame));
                let mut decoder = Decoder::default();
                let Decoded::Request { request, .. } = decoder.decode(&frame, &Limits::default()) else { panic!() };
                let Split { fragments, merge } = split(&request, |key| u32::from(key[1]) % 4);
                let replies: Vec<Vec<u8>> = fragments
                    .iter()
                    .map(|fragment| {
                        let mut decoder = Decoder::default();
                        let Decoded::Request { request, .. } = decoder.decode(&fragment.frame, &Limits::default()) else { panic!() };
                        let ours = fragment.request();
                        assert_eq!((ours.args, ours.key, ours.command.verb), (request.args, request.key, request.command.verb));
                        assert!(ours.keys().all(|key| u32::from(key[1]) % 4 == fragment.group));
                        parts[fragment.group as usize].serve(&fragment.frame)
                    })
                    .collect();
                let replies: Vec<&[u8]> = replies.iter().map(Vec::as_slice).collect();
                let mut merged = Vec::new();
                merge.merge(&replies, &mut merged);
                prop_assert_eq!(merged, whole.serve(&frame));
            }
        }
    }
}
