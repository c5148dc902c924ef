//! RESP2 replies of the shared datastore connections → RESP3 replies for clients that said HELLO 3.
//! Owns: what Redis 7 says differently in RESP3, as values that are chosen when a request comes and kept with it.

use super::encode;
use super::head::{Head, number};
use crate::protocol::keys;
use crate::protocol::request::Request;

/// How a RESP2 reply becomes a RESP3 one. Whatever does not look as foreseen (an error, a null) changes as in `Same`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Only nulls change.
    Same,
    /// A bulk string becomes a double.
    Double,
    /// A bulk string becomes text for people.
    Verbatim,
    /// An array becomes a set.
    Set,
    /// Every element of an array.
    Each(&'static Shape),
    /// The elements of an array one by one; those behind the last one stay the same.
    Tuple(&'static [Shape]),
    /// An array of keys and values in turn becomes a map; values are shaped by their key, others as `rest`.
    Map { known: &'static [(&'static str, Shape)], rest: &'static Shape },
    /// An array of keys and values in turn becomes an array of pairs.
    Pairs(&'static Shape),
    /// An array of pairs becomes a map.
    PairsToMap,
    /// The arguments decide: see `shape_of`.
    Asked(Asked),
}

/// Arguments on which a reply's shape depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// WITHSCORES among the options behind the key (and what must stand behind it).
    WithScores,
    /// WITHSCORES among the options behind counted keys.
    WithScoresBehindKeys,
    WithValues,
    /// WITHCOORD, with or without WITHDIST and WITHHASH before it.
    WithCoord,
    /// INCR of ZADD.
    Incr,
    /// IDX of LCS.
    Idx,
    /// FULL of XINFO STREAM.
    Full,
    /// A count behind the key makes the reply a set.
    SetIfCount,
    /// A count behind the key makes the reply pairs.
    PairsIfCount,
}

/// Pairs as a map, nothing special about the values.
pub const MAP: Shape = Shape::Map { known: &[], rest: &Shape::Same };
/// An array of such.
pub const MAPS: Shape = Shape::Each(&MAP);
pub const DOUBLES: Shape = Shape::Each(&Shape::Double);
pub const POSITIONS: Shape = Shape::Each(&DOUBLES);
const SCORED: Shape = Shape::Tuple(&[Shape::Same, Shape::Double]);
/// Key, then members with their scores as pairs.
pub const ZMPOP: Shape = Shape::Tuple(&[Shape::Same, Shape::Each(&SCORED)]);
/// Key, member, score.
pub const BZPOP: Shape = Shape::Tuple(&[Shape::Same, Shape::Same, Shape::Double]);
const FUNCTION: Shape = Shape::Map { known: &[("flags", Shape::Set)], rest: &Shape::Same };
pub const FUNCTION_LIST: Shape =
    Shape::Each(&Shape::Map { known: &[("functions", Shape::Each(&FUNCTION))], rest: &Shape::Same });
pub const FUNCTION_STATS: Shape = Shape::Map {
    known: &[("running_script", MAP), ("engines", Shape::Map { known: &[], rest: &MAP })],
    rest: &Shape::Same,
};
pub const LATENCY_HISTOGRAM: Shape =
    Shape::Map { known: &[], rest: &Shape::Map { known: &[("histogram_usec", MAP)], rest: &Shape::Same } };
/// What is an array in it is the map of one database.
pub const MEMORY_STATS: Shape = Shape::Map {
    known: &[
        ("dataset.percentage", Shape::Double),
        ("peak.percentage", Shape::Double),
        ("allocator-fragmentation.ratio", Shape::Double),
        ("allocator-rss.ratio", Shape::Double),
        ("rss-overhead.ratio", Shape::Double),
        ("fragmentation", Shape::Double),
    ],
    rest: &MAP,
};
const GROUP: Shape = Shape::Map { known: &[("consumers", MAPS)], rest: &Shape::Same };
const STREAM_FULL: Shape = Shape::Map { known: &[("groups", Shape::Each(&GROUP))], rest: &Shape::Same };
/// The position stands behind what else was asked for.
const PLACES: [Shape; 3] = [
    Shape::Each(&Shape::Tuple(&[Shape::Same, DOUBLES])),
    Shape::Each(&Shape::Tuple(&[Shape::Same, Shape::Same, DOUBLES])),
    Shape::Each(&Shape::Tuple(&[Shape::Same, Shape::Same, Shape::Same, DOUBLES])),
];

/// The shape of the reply to this request: never `Asked`, so that nothing of the request need be kept.
#[inline]
pub fn shape_of(request: &Request) -> Shape {
    match request.command.shape {
        Shape::Asked(asked) => decide(asked, request),
        shape => shape,
    }
}

fn decide(asked: Asked, request: &Request) -> Shape {
    let said = |from: usize, word: &str| {
        request.arguments().skip(from).any(|argument| argument.eq_ignore_ascii_case(word.as_bytes()))
    };
    let has_count = request.args > 2;
    match asked {
        Asked::WithScores if said(3, "withscores") => Shape::Pairs(&Shape::Double),
        Asked::WithScoresBehindKeys => {
            let keys = keys::places(request.command.keys, request.args as usize, request.arguments());
            match keys.is_some_and(|keys| said(keys.end, "withscores")) {
                true => Shape::Pairs(&Shape::Double),
                false => Shape::Same,
            }
        }
        Asked::WithValues if said(3, "withvalues") => Shape::Pairs(&Shape::Same),
        Asked::WithCoord => with_coord(request),
        Asked::Incr if increments(request) => Shape::Double,
        Asked::Idx if said(3, "idx") => MAP,
        Asked::Full => {
            if said(3, "full") {
                STREAM_FULL
            } else {
                MAP
            }
        }
        Asked::SetIfCount if has_count => Shape::Set,
        Asked::PairsIfCount => {
            if has_count {
                Shape::Pairs(&Shape::Double)
            } else {
                SCORED
            }
        }
        _ => Shape::Same,
    }
}

fn with_coord(request: &Request) -> Shape {
    // The arguments that must be there come first, but GEOSEARCH has them among its options.
    let is_search = request.command.name == "geosearch";
    let options = if is_search { 2 } else { usize::from(request.command.arity.unsigned_abs()) };
    let (mut coord, mut before) = (false, 0);
    let mut arguments = request.arguments().skip(options);
    while let Some(option) = arguments.next() {
        let is = |word: &str| option.eq_ignore_ascii_case(word.as_bytes());
        coord |= is("withcoord");
        before |= usize::from(is("withdist")) | usize::from(is("withhash")) << 1;
        if is("frommember") {
            arguments.next();
        }
    }
    if coord { PLACES[before.count_ones() as usize] } else { Shape::Same }
}

/// INCR stands among the options, which end with the first score.
fn increments(request: &Request) -> bool {
    const OPTIONS: [&str; 6] = ["nx", "xx", "gt", "lt", "ch", "incr"];
    let option = |argument: &[u8]| OPTIONS.iter().find(|option| argument.eq_ignore_ascii_case(option.as_bytes()));
    request.arguments().skip(2).map_while(option).any(|option| *option == "incr")
}

/// Appends the RESP3 form of one complete RESP2 reply. Bytes that are no such reply are passed on as they are.
pub fn convert(shape: Shape, reply: &[u8], out: &mut Vec<u8>) {
    let len = out.len();
    if (Reader { reply, at: 0 }).element(&shape, out).is_none() {
        out.truncate(len);
        out.extend_from_slice(reply);
    }
}

/// A place in a reply. Every method moves over one element and appends what becomes of it, or moves and appends nothing
/// and says `None`.
struct Reader<'a> {
    reply: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn element(&mut self, shape: &Shape, out: &mut Vec<u8>) -> Option<()> {
        let (at, len) = (self.at, out.len());
        if let Some(()) = self.shaped(shape, out) {
            return Some(());
        }
        // Not what was foreseen: an error, a null, or another version's reply.
        self.at = at;
        out.truncate(len);
        self.same(out)
    }

    fn shaped(&mut self, shape: &Shape, out: &mut Vec<u8>) -> Option<()> {
        match shape {
            Shape::Same | Shape::Asked(_) => self.same(out),
            Shape::Double => {
                let text = self.bulk()?;
                if memchr::memchr2(b'\r', b'\n', text).is_some() {
                    return None;
                }
                out.push(b',');
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
                Some(())
            }
            Shape::Verbatim => {
                encode::verbatim(self.bulk()?, encode::Version::Resp3, out);
                Some(())
            }
            Shape::Set => {
                let elements = self.array()?;
                encode::head(b'~', elements, out);
                (0..elements).try_for_each(|_| self.same(out))
            }
            Shape::Each(shape) => {
                let elements = self.array()?;
                encode::array_head(elements, out);
                (0..elements).try_for_each(|_| self.element(shape, out))
            }
            Shape::Tuple(shapes) => {
                let elements = self.array()?;
                encode::array_head(elements, out);
                (0..elements).try_for_each(|at| self.element(shapes.get(at).unwrap_or(&Shape::Same), out))
            }
            Shape::Map { known, rest } => {
                let pairs = self.pairs()?;
                encode::head(b'%', pairs, out);
                (0..pairs).try_for_each(|_| {
                    let key = self.copied(out)?;
                    let shape = known.iter().find(|(name, _)| key == name.as_bytes()).map_or(*rest, |(_, shape)| shape);
                    self.element(shape, out)
                })
            }
            Shape::Pairs(shape) => {
                let pairs = self.pairs()?;
                encode::array_head(pairs, out);
                (0..pairs).try_for_each(|_| {
                    encode::array_head(2, out);
                    self.same(out)?;
                    self.element(shape, out)
                })
            }
            Shape::PairsToMap => {
                let pairs = self.array()?;
                encode::head(b'%', pairs, out);
                (0..pairs).try_for_each(|_| {
                    self.array().filter(|&elements| elements == 2)?;
                    self.same(out)?;
                    self.same(out)
                })
            }
        }
    }

    /// An element as it is, but for the nulls in it. Runs without one are copied in one piece.
    fn same(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let (mut from, mut left) = (self.at, 1u64);
        while left > 0 {
            left -= 1;
            match *self.reply.get(self.at)? {
                kind @ (b'$' | b'*') => {
                    let Head::Number { value, next } = number(self.reply, self.at + 1) else { return None };
                    if value < 0 {
                        out.extend_from_slice(&self.reply[from..self.at]);
                        out.extend_from_slice(b"_\r\n");
                        (self.at, from) = (next, next);
                    } else if kind == b'*' {
                        left += value as u64;
                        self.at = next;
                    } else {
                        self.at = self.past(next.checked_add(value as usize)?)?;
                    }
                }
                _ => self.at += memchr::memchr(b'\n', &self.reply[self.at..])? + 1,
            }
        }
        out.extend_from_slice(&self.reply[from..self.at]);
        Some(())
    }

    /// A bulk string copied as it is, and its content.
    fn copied(&mut self, out: &mut Vec<u8>) -> Option<&[u8]> {
        let from = self.at;
        if self.reply.get(self.at) != Some(&b'$') {
            self.same(out)?;
            return Some(&[]);
        }
        self.bulk()?;
        out.extend_from_slice(&self.reply[from..self.at]);
        match number(self.reply, from + 1) {
            Head::Number { next, .. } => self.reply.get(next..self.at - 2),
            _ => None,
        }
    }

    fn bulk(&mut self) -> Option<&[u8]> {
        match (self.reply.get(self.at)?, number(self.reply, self.at + 1)) {
            (b'$', Head::Number { value, next }) => {
                let end = next.checked_add(usize::try_from(value).ok()?)?;
                self.at = self.past(end)?;
                self.reply.get(next..end)
            }
            _ => None,
        }
    }

    /// Moves over an array's head, says how many elements follow.
    fn array(&mut self) -> Option<usize> {
        match (self.reply.get(self.at)?, number(self.reply, self.at + 1)) {
            (b'*', Head::Number { value, next }) => {
                let elements = usize::try_from(value).ok()?;
                self.at = next;
                Some(elements)
            }
            _ => None,
        }
    }

    /// The same for an array of pairs in a row.
    fn pairs(&mut self) -> Option<usize> {
        self.array().filter(|elements| elements.is_multiple_of(2)).map(|elements| elements / 2)
    }

    /// Behind the line end that stands at `end`.
    fn past(&self, end: usize) -> Option<usize> {
        self.reply.get(end..end + 2).map(|_| end + 2)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::reply::Scanned;
    use crate::protocol::request::{Decoded, Limits};
    use crate::protocol::resp::commands::COMMANDS;
    use crate::protocol::resp::decode::Decoder;
    use crate::protocol::resp::scan::ReplyScanner;

    /// `check("zscore z a", RESP2 reply, RESP3 reply)`: the same as Redis 7.0 says to this request in either version.
    #[track_caller]
    fn check(request: &str, resp2: &str, resp3: &str) {
        let (mut decoder, line) = (Decoder::default(), format!("{request}\r\n"));
        let Decoded::Request { request: decoded, .. } = decoder.decode(line.as_bytes(), &Limits::default()) else {
            panic!("{request}")
        };
        let mut out = Vec::new();
        convert(shape_of(&decoded), resp2.as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), resp3, "{request}");
    }

    #[test]
    fn nulls() {
        check("get a", "$-1\r\n", "_\r\n");
        check("get a", "$3\r\n$-1\r\n", "$3\r\n$-1\r\n");
        check("lpop a 2", "*-1\r\n", "_\r\n");
        check("mget a b", "*3\r\n$-1\r\n$1\r\nx\r\n$-1\r\n", "*3\r\n_\r\n$1\r\nx\r\n_\r\n");
        check("eval x 0", "*2\r\n*2\r\n:1\r\n*-1\r\n+a\r\n", "*2\r\n*2\r\n:1\r\n_\r\n+a\r\n");
        check("set a 1", "+OK\r\n", "+OK\r\n");
    }

    #[test]
    fn errors_stay_what_they_are() {
        for request in ["hgetall a", "zscore a b", "smembers a", "info", "xread streams a 0", "zrange a 0 1 withscores"]
        {
            check(request, "-WRONGTYPE no\r\n", "-WRONGTYPE no\r\n");
        }
    }

    #[test]
    fn scores() {
        check("zscore z a", "$3\r\ninf\r\n", ",inf\r\n");
        check("zscore z a", "$-1\r\n", "_\r\n");
        check("zmscore z a b", "*2\r\n$1\r\n1\r\n$-1\r\n", "*2\r\n,1\r\n_\r\n");
        let (flat, pairs) = ("*2\r\n$1\r\na\r\n$3\r\n2.5\r\n", "*1\r\n*2\r\n$1\r\na\r\n,2.5\r\n");
        check("zrange z 0 -1 withscores", flat, pairs);
        check("zrange z 0 -1", flat, flat);
        check("zunion 1 withscores", flat, flat);
        check("zunion 1 withscores weights 1 WithScores", flat, pairs);
        check("zpopmin z 1", flat, pairs);
        check("zpopmin z", flat, "*2\r\n$1\r\na\r\n,2.5\r\n");
        check("zadd z incr 1 a", "$1\r\n1\r\n", ",1\r\n");
        check("zadd z 1 incr", "$1\r\n1\r\n", "$1\r\n1\r\n");
        check("hrandfield h 1 withvalues", flat, "*1\r\n*2\r\n$1\r\na\r\n$3\r\n2.5\r\n");
    }

    #[test]
    fn maps_and_sets() {
        check("hgetall h", "*2\r\n$1\r\na\r\n$1\r\nb\r\n", "%1\r\n$1\r\na\r\n$1\r\nb\r\n");
        check("hgetall h", "*0\r\n", "%0\r\n");
        check("smembers s", "*1\r\n$1\r\na\r\n", "~1\r\n$1\r\na\r\n");
        check("spop s", "$1\r\na\r\n", "$1\r\na\r\n");
        check("spop s 1", "*1\r\n$1\r\na\r\n", "~1\r\n$1\r\na\r\n");
        check("lcs a b idx", "*2\r\n$3\r\nlen\r\n:0\r\n", "%1\r\n$3\r\nlen\r\n:0\r\n");
        check("info", "$2\r\n#a\r\n", "=6\r\ntxt:#a\r\n");
        check(
            "xread streams s 0",
            "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*-1\r\n",
            "%1\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-1\r\n_\r\n",
        );
    }

    #[test]
    fn positions() {
        check("geopos g a b", "*2\r\n*2\r\n$1\r\n1\r\n$1\r\n2\r\n*-1\r\n", "*2\r\n*2\r\n,1\r\n,2\r\n_\r\n");
        let (resp2, resp3) =
            ("*1\r\n*3\r\n$1\r\na\r\n$1\r\n9\r\n*1\r\n$1\r\n1\r\n", "*1\r\n*3\r\n$1\r\na\r\n$1\r\n9\r\n*1\r\n,1\r\n");
        check("georadius g 1 2 3 km withdist withcoord", resp2, resp3);
        check("georadius g 1 2 3 km withdist", resp2, resp2);
        check("geosearch g frommember withcoord byradius 1 km withdist", resp2, resp2);
        check("geosearch g withcoord frommember a byradius 1 km withdist", resp2, resp3);
        check("georadiusbymember g withcoord 3 km", resp2, resp2);
    }

    #[test]
    fn another_form_than_foreseen_changes_in_its_nulls_alone() {
        check("xread streams a 0", "*1\r\n*3\r\n:1\r\n$-1\r\n:3\r\n", "*1\r\n*3\r\n:1\r\n_\r\n:3\r\n");
        check("hgetall h", "*1\r\n$-1\r\n", "*1\r\n_\r\n");
        check("zscore z a", "*1\r\n:1\r\n", "*1\r\n:1\r\n");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            reply in prop::collection::vec(prop::sample::select(&b"$*+-:_%~0123\r\na"[..]), 0..60),
            row in 0..COMMANDS.len(),
        ) {
            let mut out = Vec::new();
            convert(COMMANDS[row].shape, &reply, &mut out);
            convert(STREAM_FULL, &reply, &mut out);
        }

        /// Whatever a datastore says to whichever command, its RESP3 form is one whole reply.
        #[test]
        fn one_reply_stays_one_reply(reply in resp2(), row in 0..COMMANDS.len(), place in 0..PLACES.len()) {
            for shape in [COMMANDS[row].shape, STREAM_FULL, PLACES[place], Shape::Pairs(&Shape::Double)] {
                let mut out = Vec::new();
                convert(shape, reply.as_bytes(), &mut out);
                let is_error = reply.starts_with('-');
                prop_assert_eq!(ReplyScanner::default().scan(&out), Scanned::Reply { len: out.len(), is_error });
            }
        }
    }

    fn resp2() -> impl Strategy<Value = String> {
        let word = "[a-z]{0,3}|1|flags|groups|2.5|\r|\n|\r\n".prop_map(|text| format!("${}\r\n{text}\r\n", text.len()));
        let leaf = prop_oneof![
            word,
            prop::sample::select(&["+OK\r\n", "-ERR no\r\n", ":7\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n"][..])
                .prop_map(str::to_string),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop::collection::vec(inner, 0..6)
                .prop_map(|elements| format!("*{}\r\n{}", elements.len(), elements.concat()))
        })
    }
}
