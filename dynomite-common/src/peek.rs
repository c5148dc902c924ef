//! A bounded look at the head of a request or a reply. Sure means that the full decoder says the same (a fuzz target
//! holds the two together); whatever is odd is Unsure, and the daemon's decoder has the word.
//! Owns: nothing. Knows nothing of: which commands are eligible, whose the key is.

use crate::abi::Name;
use crate::gate::ReplyHead;
use crate::limits::{ARGS_MAX, HEAD_BYTES, NAME_BYTES_MAX};
use crate::reason::Reason;
use crate::token::KERNEL_KEY_BYTES_MAX;
use crate::verifier::{self, Forgotten};

/// What a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// The segment is exactly one request of this name; the rest is in `State`.
    Sure(Name),
    /// Not all of a request is in the segment.
    Incomplete,
    /// Nothing that the kernel understands, or more than one request; the daemon decodes it.
    Unsure(Reason),
}

/// The beginning of a segment, copied out, and what is known of the rest.
pub struct Head<'a> {
    bytes: &'a [u8; HEAD_BYTES],
    /// The segment's last two bytes.
    tail: [u8; 2],
    state: &'a State,
}

/// Working memory of a look, and what it found. All of it is forgotten by the verifier at every step.
#[derive(Debug, Default)]
#[repr(C)]
pub struct State {
    cursor: Forgotten,
    /// The whole segment's length, and how many bytes of it the head holds.
    len: Forgotten,
    known: Forgotten,
    number: Forgotten,
    /// With the name.
    pub args: Forgotten,
    /// The key, as a place in the head: `key_at + key_len` is within it.
    pub key_at: Forgotten,
    pub key_len: Forgotten,
    zero: u32,
}
const _: () = assert!(size_of::<State>() == 32);

type Looked<T> = Result<T, Peek>;

impl<'a> Head<'a> {
    /// `tail` counts only when `len` is more than the head holds.
    #[inline(always)]
    pub fn new(bytes: &'a [u8; HEAD_BYTES], len: u32, tail: [u8; 2], state: &'a State) -> Head<'a> {
        state.len.set(len);
        state.known.set(if len < HEAD_BYTES as u32 { len } else { HEAD_BYTES as u32 });
        state.cursor.set(0);
        Head { bytes, tail, state }
    }

    /// A RESP array of bulk strings: name, key, up to four more arguments.
    #[inline(always)]
    pub fn resp(self) -> Peek {
        match self.look_resp() {
            Ok(name) => Peek::Sure(name),
            Err(peek) => peek,
        }
    }

    #[inline(always)]
    fn look_resp(&self) -> Looked<Name> {
        self.expect(b'*')?;
        let args = self.number()?;
        if args < 2 {
            return Err(Peek::Unsure(Reason::NotEligible));
        }
        if args > ARGS_MAX {
            return Err(Peek::Unsure(Reason::TooLong));
        }
        self.state.args.set(args);
        let name = self.name()?;
        self.key()?;
        for arg in 2..ARGS_MAX {
            if arg >= self.state.args.get() {
                break;
            }
            let len = self.bulk()?;
            self.terminated(len)?;
        }
        self.ended()?;
        Ok(name)
    }

    /// memcached `get` of one key.
    #[inline(always)]
    pub fn memcache(self) -> Peek {
        match self.look_memcache() {
            Ok(()) => Peek::Sure(GET),
            Err(peek) => peek,
        }
    }

    #[inline(always)]
    fn look_memcache(&self) -> Looked<()> {
        for letter in *b"get " {
            self.expect(letter)?;
        }
        if self.state.len.get() > HEAD_BYTES as u32 {
            return Err(Peek::Unsure(Reason::TooLong));
        }
        let mut key_len = 0;
        for place in 0..MEMCACHE_KEY_BYTES_MAX + 1 {
            let byte = self.byte(4 + place)?;
            if byte <= b' ' || byte == 0x7f {
                break;
            }
            key_len = place + 1;
        }
        if key_len == 0 || key_len > MEMCACHE_KEY_BYTES_MAX {
            return Err(Peek::Unsure(Reason::TooLong));
        }
        self.state.args.set(2);
        self.state.key_at.set(4);
        let key_len = self.state.key_len.through(key_len);
        self.terminated(key_len)?;
        self.ended()
    }

    /// `$n\r\n`, n letters made small, `\r\n`.
    #[inline(always)]
    fn name(&self) -> Looked<Name> {
        let len = self.bulk()?;
        if len == 0 || len > NAME_BYTES_MAX {
            return Err(Peek::Unsure(Reason::NotEligible));
        }
        let at = self.state.cursor.get();
        let (mut first, mut second) = (0, 0);
        for place in 0..NAME_BYTES_MAX {
            if place >= self.state.number.get() {
                break;
            }
            let small = self.byte(at + place)? | 0x20;
            if !small.is_ascii_lowercase() {
                return Err(Peek::Unsure(Reason::NotEligible));
            }
            let letter = u64::from(small) << (8 * (place & 7));
            if place < 8 {
                first |= letter;
            } else {
                second |= letter;
            }
        }
        self.terminated(self.state.number.get())?;
        Ok(Name([first, second]))
    }

    /// `$n\r\n`, n bytes, `\r\n`, all of it in the head.
    #[inline(always)]
    fn key(&self) -> Looked<()> {
        let len = self.bulk()?;
        if len == 0 || len as usize > KERNEL_KEY_BYTES_MAX {
            return Err(Peek::Unsure(Reason::TooLong));
        }
        self.state.key_len.set(len);
        self.state.key_at.set(self.state.cursor.get());
        self.terminated(len)?;
        if self.state.cursor.get() > HEAD_BYTES as u32 {
            return Err(Peek::Unsure(Reason::TooLong));
        }
        Ok(())
    }

    #[inline(always)]
    fn byte(&self, at: u32) -> Looked<u8> {
        if at >= self.state.known.get() {
            return Err(if at >= self.state.len.get() { Peek::Incomplete } else { Peek::Unsure(Reason::TooLong) });
        }
        Ok(verifier::byte(self.bytes, at))
    }

    #[inline(always)]
    fn expect(&self, byte: u8) -> Looked<()> {
        let at = self.state.cursor.get();
        if self.byte(at)? != byte {
            return Err(Peek::Unsure(Reason::Unsure));
        }
        self.state.cursor.set(at + 1);
        Ok(())
    }

    /// `$n\r\n`: n.
    #[inline(always)]
    fn bulk(&self) -> Looked<u32> {
        self.expect(b'$')?;
        self.number()
    }

    /// Digits and a line end. No sign and no leading zero: datastores differ about those.
    #[inline(always)]
    fn number(&self) -> Looked<u32> {
        let mut at = self.state.cursor.get();
        let mut value = 0;
        for place in 0..DIGITS_MAX + 1 {
            let byte = self.byte(at)?;
            if byte == b'\r' {
                if place == 0 || self.byte(at + 1)? != b'\n' {
                    return Err(Peek::Unsure(Reason::Unsure));
                }
                self.state.cursor.set(at + 2);
                return Ok(self.state.number.through(value));
            }
            if !byte.is_ascii_digit() || (place > 0 && value == 0) {
                return Err(Peek::Unsure(Reason::Unsure));
            }
            value = self.state.number.through(value * 10 + u32::from(byte - b'0'));
            at = self.state.cursor.through(at + 1);
        }
        Err(Peek::Unsure(Reason::TooLong))
    }

    /// Past `len` bytes and the line end behind them.
    #[inline(always)]
    fn terminated(&self, len: u32) -> Looked<()> {
        let end = self.state.cursor.get() + len;
        if end + 2 > self.state.len.get() {
            return Err(Peek::Incomplete);
        }
        let line_end = if end + 2 <= self.state.known.get() {
            [verifier::byte(self.bytes, end), verifier::byte(self.bytes, end + 1)]
        } else if end + 2 == self.state.len.get() {
            self.tail
        } else {
            return Err(Peek::Unsure(Reason::TooLong));
        };
        if line_end != *b"\r\n" {
            return Err(Peek::Unsure(Reason::Unsure));
        }
        self.state.cursor.set(end + 2);
        Ok(())
    }

    #[inline(always)]
    fn ended(&self) -> Looked<()> {
        if self.state.cursor.get() != self.state.len.get() { Err(Peek::Unsure(Reason::Several)) } else { Ok(()) }
    }
}

/// A length of six digits is more than a segment can hold.
const DIGITS_MAX: u32 = 6;
const MEMCACHE_KEY_BYTES_MAX: u32 = 250;
const GET: Name = Name([u64::from_le_bytes(*b"get\0\0\0\0\0"), 0]);

/// One-line replies longer than this are relayed: nothing but an error text is that long.
const LINE_BYTES_MAX: u32 = 512;

/// The head of a RESP reply of `size` bytes so far, to a request with a one-element reply. `byte` gives bytes by number
/// while they are in reach.
#[inline(always)]
pub fn resp_reply(size: u32, byte: impl Fn(u32) -> Option<u8>) -> ReplyHead {
    match byte(0) {
        Some(b'$') => {
            if byte(1) == Some(b'-') {
                return if size == 5 { ReplyHead::Bytes(5) } else { ReplyHead::Unknown };
            }
            match digits(1, b'\r', &byte) {
                Some((at, value)) if byte(at) == Some(b'\n') => ReplyHead::Bytes(u64::from(at) + 1 + value + 2),
                _ => ReplyHead::Unknown,
            }
        }
        Some(b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(') => line(size, byte),
        _ => ReplyHead::Unknown,
    }
}

/// The head of memcached's reply to a `get` of a key of `key_len` bytes.
#[inline(always)]
pub fn memcache_reply(size: u32, key_len: u32, byte: impl Fn(u32) -> Option<u8>) -> ReplyHead {
    match byte(0) {
        // "VALUE <key> <flags> <bytes>\r\n<data>\r\nEND\r\n"
        Some(b'V') => {
            let at = 6 + key_len;
            if byte(5) != Some(b' ') || byte(at) != Some(b' ') {
                return ReplyHead::Unknown;
            }
            let Some((at, _flags)) = digits(at + 1, b' ', &byte) else { return ReplyHead::Unknown };
            match digits(at, b'\r', &byte) {
                Some((at, value)) if byte(at) == Some(b'\n') => ReplyHead::Bytes(u64::from(at) + 1 + value + 2 + 5),
                _ => ReplyHead::Unknown,
            }
        }
        // END, ERROR, SERVER_ERROR, CLIENT_ERROR
        Some(b'E' | b'S' | b'C') => line(size, byte),
        _ => ReplyHead::Unknown,
    }
}

/// One request is with the datastore and its reply is one line, so the first line end is the last byte.
#[inline(always)]
fn line(size: u32, byte: impl Fn(u32) -> Option<u8>) -> ReplyHead {
    if size > 2 && size <= LINE_BYTES_MAX && byte(size - 1) == Some(b'\n') {
        ReplyHead::Bytes(u64::from(size))
    } else {
        ReplyHead::Unknown
    }
}

/// Up to ten digits from `at` on, then `end`: (what is behind that, the number).
#[inline(always)]
fn digits(at: u32, end: u8, byte: impl Fn(u32) -> Option<u8>) -> Option<(u32, u64)> {
    let mut value = 0_u64;
    for place in 0..11 {
        let next = byte(at + place)?;
        if next == end {
            return if place > 0 { Some((at + place + 1, value)) } else { None };
        }
        if !next.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(next - b'0');
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peek(segment: &[u8], resp: bool) -> Peek {
        look(segment, resp).0
    }

    fn look(segment: &[u8], resp: bool) -> (Peek, State) {
        let mut bytes = [b'\n'; HEAD_BYTES];
        let known = segment.len().min(HEAD_BYTES);
        bytes[..known].copy_from_slice(&segment[..known]);
        let tail = *segment.last_chunk().unwrap_or(&[0, 0]);
        let state = State::default();
        let head = Head::new(&bytes, segment.len() as u32, tail, &state);
        let peek = if resp { head.resp() } else { head.memcache() };
        (peek, state)
    }

    fn resp(args: &[&str]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            bytes.extend(format!("${}\r\n{arg}\r\n", arg.len()).bytes());
        }
        bytes
    }

    fn check_resp(args: &[&str]) {
        let bytes = resp(args);
        let (peeked, state) = look(&bytes, true);
        let name = Name::new(&args[0].to_ascii_lowercase()).expect("a name that the kernel can know");
        assert_eq!(peeked, Peek::Sure(name), "{args:?}");
        assert_eq!(state.args.get() as usize, args.len());
        let key_at = state.key_at.get() as usize;
        assert_eq!(&bytes[key_at..key_at + state.key_len.get() as usize], args[1].as_bytes());
        for cut in 1..bytes.len() {
            // Any beginning is incomplete; or it is too long to say, when the head was longer than the window.
            let part = peek(&bytes[..cut], true);
            assert!(
                matches!(part, Peek::Incomplete | Peek::Unsure(Reason::TooLong)),
                "{args:?} cut at {cut}: {part:?}"
            );
        }
        let twice = [bytes.clone(), bytes].concat();
        assert!(matches!(peek(&twice, true), Peek::Unsure(Reason::Several | Reason::TooLong)));
    }

    #[test]
    fn requests_in_resp() {
        check_resp(&["GET", "foo"]);
        check_resp(&["get", &"k".repeat(256)]);
        check_resp(&["GeT", "a\r\nb"]);
        check_resp(&["GETRANGE", "k", "0", "-1"]);
        check_resp(&["ZREMRANGEBYSCORE", "k", "", ""]);
        check_resp(&["SET", "k", "", "EX", "100", "NX"]);
    }

    #[test]
    fn a_last_argument_may_reach_beyond_the_head() {
        for len in [400, 470, 480, 485, 486, 487, 488, 489, 490, 1000, 99_999] {
            let bytes = resp(&["SET", "k", &"v".repeat(len)]);
            assert!(matches!(peek(&bytes, true), Peek::Sure(_)), "{len}");
            assert_eq!(peek(&bytes[..bytes.len() - 1], true), Peek::Incomplete, "{len}");
            let mut bad = bytes.clone();
            *bad.last_mut().unwrap() = b'x';
            assert_eq!(peek(&bad, true), Peek::Unsure(Reason::Unsure), "{len}");
        }
        let bytes = resp(&["SET", "k", &"v".repeat(600), "EX", "1"]);
        assert_eq!(peek(&bytes, true), Peek::Unsure(Reason::TooLong));
    }

    #[test]
    fn oddities_go_to_the_daemon() {
        let check = |bytes: &str, reason| assert_eq!(peek(bytes.as_bytes(), true), Peek::Unsure(reason), "{bytes:?}");
        check("PING\r\n", Reason::Unsure);
        check("*1\r\n$4\r\nPING\r\n", Reason::NotEligible);
        check("*0\r\n", Reason::NotEligible);
        check("*-1\r\n", Reason::Unsure);
        check("*\r\n$3\r\n", Reason::Unsure);
        check("*02\r\n$3\r\nGET\r\n$1\r\nk\r\n", Reason::Unsure);
        check("*2\r\n$03\r\nGET\r\n$1\r\nk\r\n", Reason::Unsure);
        check("*2\r\n$3\r\nGETX\r\n$1\r\nk\r\n", Reason::Unsure);
        check("*2\r\n$3\r\nGET\r\n$1\r\nkk\r\n", Reason::Unsure);
        check("*2\r\n$3\r\nGET\r\n:1\r\nk\r\n", Reason::Unsure);
        check("*2\n$3\nGET\n$1\nk\n", Reason::Unsure);
        check("*2\r\n$3\r\nG-T\r\n$1\r\nk\r\n", Reason::NotEligible);
        check("*2\r\n$17\r\nGEORADIUSBYMEMBER\r\n$1\r\nk\r\n", Reason::NotEligible);
        check("*2\r\n$3\r\nGET\r\n$0\r\n\r\n", Reason::TooLong);
        check("*7\r\n$3\r\nSET\r\n", Reason::TooLong);
        check("*2\r\n$3\r\nGET\r\n$9999999\r\n", Reason::TooLong);
        check(&format!("*2\r\n$3\r\nGET\r\n$257\r\n{}\r\n", "k".repeat(257)), Reason::TooLong);
    }

    #[test]
    fn requests_in_memcached_text() {
        let check = |text: &str, expected: Peek| assert_eq!(peek(text.as_bytes(), false), expected, "{text:?}");
        let get = |key: &str| {
            let (peeked, state) = look(format!("get {key}\r\n").as_bytes(), false);
            let found = (state.args.get(), state.key_at.get(), state.key_len.get() as usize);
            assert_eq!((peeked, found), (Peek::Sure(GET), (2, 4, key.len())), "{key}");
        };
        get("k");
        get("été");
        get(&"k".repeat(250));
        check(&format!("get {}\r\n", "k".repeat(251)), Peek::Unsure(Reason::TooLong));
        for cut in 1..7 {
            check(&"get k\r\n"[..cut], Peek::Incomplete);
        }
        check("get \r\n", Peek::Unsure(Reason::TooLong));
        check("get a b\r\n", Peek::Unsure(Reason::Unsure));
        check("get k \r\n", Peek::Unsure(Reason::Unsure));
        check("get k\n", Peek::Incomplete);
        check("get k\nx", Peek::Unsure(Reason::Unsure));
        check("get k\r\nget l\r\n", Peek::Unsure(Reason::Several));
        check("gets k\r\n", Peek::Unsure(Reason::Unsure));
        check("GET k\r\n", Peek::Unsure(Reason::Unsure));
    }

    #[test]
    fn replies_in_resp() {
        let check = |text: &str, head| {
            let bytes = text.as_bytes();
            assert_eq!(resp_reply(bytes.len() as u32, |at| bytes.get(at as usize).copied()), head, "{text:?}");
        };
        for whole in [
            "+OK\r\n",
            "-ERR no\r\n",
            ":1\r\n",
            "$-1\r\n",
            "$0\r\n\r\n",
            "$3\r\nfoo\r\n",
            "_\r\n",
            ",1.5\r\n",
            "#t\r\n",
        ] {
            check(whole, ReplyHead::Bytes(whole.len() as u64));
        }
        check("$100\r\nfoo", ReplyHead::Bytes(108));
        check("$1000000\r\n", ReplyHead::Bytes(1_000_012));
        check("$4294967295\r\n", ReplyHead::Bytes(4_294_967_310));
        for unsure in [
            "",
            "$",
            "$1",
            "$12\r",
            "$\r\n",
            "$x\r\n",
            "$99999999999\r\n",
            "+OK",
            "+OK\r",
            "*1\r\n:1\r\n",
            "%0\r\n",
            "$-1\r",
            "foo\r\n",
        ] {
            check(unsure, ReplyHead::Unknown);
        }
        check(&format!("-ERR {}\r\n", "x".repeat(600)), ReplyHead::Unknown);
    }

    #[test]
    fn replies_in_memcached_text() {
        let check = |text: &str, head| {
            let bytes = text.as_bytes();
            assert_eq!(memcache_reply(bytes.len() as u32, 3, |at| bytes.get(at as usize).copied()), head, "{text:?}");
        };
        for whole in [
            "END\r\n",
            "VALUE foo 0 3\r\nbar\r\nEND\r\n",
            "VALUE foo 4294967295 0\r\n\r\nEND\r\n",
            "SERVER_ERROR out of memory\r\n",
        ] {
            check(whole, ReplyHead::Bytes(whole.len() as u64));
        }
        check("VALUE foo 0 100\r\nba", ReplyHead::Bytes(17 + 107));
        for unsure in [
            "",
            "V",
            "VALUE foo",
            "VALUE foo 0 ",
            "VALUE fooo 0 1\r\n",
            "VALUE foo 0 1 7\r\n",
            "END",
            "STORED\r",
            "VA 1\r\n",
        ] {
            check(unsure, ReplyHead::Unknown);
        }
    }
}
