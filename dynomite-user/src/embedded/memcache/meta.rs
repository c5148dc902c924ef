//! The meta commands.

use super::{Item, Mode, NOT_NUMERIC, New, Store, Stored, TOO_LARGE};
use crate::protocol::memcache::line::{encode_base64, signed, unsigned, write_number};
use crate::protocol::request::Request;

const DUPLICATE: &str = "duplicate flag";
const INVALID: &str = "invalid flag";
/// What `md` and `ma` say of any flag they do not like.
const EITHER: &str = "invalid or duplicate flag";
const KNOWN: &[u8] = b"bcfhklqstuvCDFIJLMNOPRT";
const OPAQUE_BYTES_MAX: usize = 32;
const FLAGS_MAX: usize = 17;

/// The flags of one request, in their order.
struct Flags<'a> {
    words: &'a [&'a [u8]],
}

impl<'a> Flags<'a> {
    fn has(&self, flag: u8) -> bool {
        self.words.iter().any(|word| word[0] == flag)
    }

    fn token(&self, flag: u8) -> Option<&'a [u8]> {
        self.words.iter().find(|word| word[0] == flag).map(|word| &word[1..])
    }

    fn number(&self, flag: u8) -> Option<u64> {
        self.token(flag).and_then(unsigned)
    }

    fn time(&self, flag: u8) -> Option<i64> {
        self.token(flag).and_then(signed)
    }

    /// What is wrong with them, as memcached says it.
    fn fault(&self, is_arithmetic: bool, says_either: bool) -> Option<&'static str> {
        if self.words.len() > FLAGS_MAX {
            return Some(if says_either { "options flags too long" } else { "options flags are too long" });
        }
        for (place, word) in self.words.iter().enumerate() {
            let fault = if self.words[..place].iter().any(|other| other[0] == word[0]) {
                Some(DUPLICATE)
            } else if !KNOWN.contains(&word[0]) {
                Some(INVALID)
            } else {
                None
            };
            if let Some(fault) = fault {
                return Some(if says_either { EITHER } else { fault });
            }
        }
        let bad = |flags: &[u8]| flags.iter().any(|&flag| self.has(flag) && self.number(flag).is_none());
        let bad_time = |flags: &[u8]| flags.iter().any(|&flag| self.has(flag) && self.time(flag).is_none());
        if bad_time(b"TNR") || bad(b"C") || is_arithmetic && bad(b"DJ") {
            return Some(if says_either { EITHER } else { "bad token in command line format" });
        }
        if self.has(b'F') && self.number(b'F').is_none() {
            return Some("bad command line format");
        }
        if self.token(b'O').is_some_and(|token| token.len() >= OPAQUE_BYTES_MAX) {
            return Some("opaque token too long");
        }
        None
    }
}

/// Begins a reply and takes its parts.
struct Answer<'a> {
    out: &'a mut Vec<u8>,
    /// The key as it came, and whether that is base64.
    key: &'a [u8],
}

impl Answer<'_> {
    fn part(&mut self, name: u8, text: &[u8]) {
        self.out.extend_from_slice(&[b' ', name]);
        self.out.extend_from_slice(text);
    }

    fn number(&mut self, name: u8, number: u64) {
        self.part(name, &[]);
        write_number(number, self.out);
    }

    /// What only repeats what was asked: key and opaque.
    fn echo(&mut self, flags: &Flags<'_>, base64: bool) {
        for word in flags.words {
            self.echo_one(word, base64);
        }
    }

    fn echo_one(&mut self, word: &[u8], base64: bool) {
        match word[0] {
            b'k' => {
                let key = self.key;
                self.part(b'k', key);
                if base64 {
                    self.out.extend_from_slice(b" b");
                }
            }
            b'O' => self.part(b'O', &word[1..]),
            _ => {}
        }
    }

    fn end(&mut self, data: Option<&[u8]>) {
        self.out.extend_from_slice(b"\r\n");
        if let Some(data) = data {
            self.out.extend_from_slice(data);
            self.out.extend_from_slice(b"\r\n");
        }
    }
}

impl Store {
    pub(super) fn meta(&mut self, request: &Request<'_>, words: &[&[u8]], data: &[u8], out: &mut Vec<u8>) {
        let name = request.command.name;
        let flags = Flags { words: words.get(if name == "ms" { 3 } else { 2 }..).unwrap_or_default() };
        let key = request.key.unwrap_or_default();
        if name != "me"
            && let Some(fault) = flags.fault(name == "ma", matches!(name, "md" | "ma"))
        {
            out.extend_from_slice(b"CLIENT_ERROR ");
            out.extend_from_slice(fault.as_bytes());
            return out.extend_from_slice(b"\r\n");
        }
        let answer = Answer { out, key: words[1] };
        match name {
            "ms" => self.meta_set(key, &flags, data, answer),
            "md" => self.meta_delete(key, &flags, answer),
            "ma" => self.meta_arithmetic(key, &flags, answer),
            "me" => self.meta_debug(key, answer),
            _ => self.meta_get(key, &flags, answer),
        }
    }

    fn meta_get(&mut self, key: &[u8], flags: &Flags<'_>, answer: Answer<'_>) {
        let mut made = false;
        if self.live(key).is_none() {
            let Some(time) = flags.time(b'N') else {
                answer.out.extend_from_slice(b"EN");
                return finish(answer, flags, flags.has(b'b'), None);
            };
            let new = New {
                mode: Mode::Set,
                flags: 0,
                expires_at: self.end(time),
                data: b"",
                cas: None,
                invalidate: false,
                // memcached forgets how the key came when it makes an item by itself.
                base64: false,
            };
            self.store(key, new);
            made = true;
        }
        let (now, touched) = (self.now, flags.time(b'T').map(|time| self.end(time)));
        let recache = flags.time(b'R');
        let Some(item) = self.live(key) else { return };
        let left = |item: &Item| item.expires_at.map(|at| at.saturating_sub(now));
        let wants =
            made || item.stale || recache.is_some_and(|limit| left(item).is_some_and(|left| (left as i64) < limit));
        let (wins, told_before) = (wants && !item.won, item.won);
        item.won |= wins;
        let (hit, seen_at) = (item.hit, item.seen_at);
        if !flags.has(b'u') && !made {
            (item.hit, item.seen_at) = (true, now);
        }
        if let Some(end) = touched {
            item.expires_at = end;
        }
        let item = item.clone();
        // An item knows whether its key is told in base64, however it is asked for now.
        let encoded = encode_base64(key);
        let answer = Answer { key: if item.base64 { &encoded } else { key }, ..answer };
        tell(answer, flags, &item, Some((hit, now.saturating_sub(seen_at), left(&item))), |answer| {
            match (wins, told_before) {
                (true, _) if item.stale => answer.out.extend_from_slice(b" X W"),
                (true, _) => answer.out.extend_from_slice(b" W"),
                (_, true) if item.stale => answer.out.extend_from_slice(b" Z X"),
                (_, true) => answer.out.extend_from_slice(b" Z"),
                _ if item.stale => answer.out.extend_from_slice(b" X"),
                _ => {}
            }
        });
    }

    fn meta_set(&mut self, key: &[u8], flags: &Flags<'_>, data: &[u8], answer: Answer<'_>) {
        let mode = match flags.token(b'M') {
            None => Mode::Set,
            Some([mode]) => match mode.to_ascii_uppercase() {
                b'S' => Mode::Set,
                b'E' => Mode::Add,
                b'R' => Mode::Replace,
                b'A' => Mode::Append,
                b'P' => Mode::Prepend,
                _ => return answer.out.extend_from_slice(b"CLIENT_ERROR invalid mode for ms M token\r\n"),
            },
            Some(_) => return answer.out.extend_from_slice(b"CLIENT_ERROR incorrect length for M token\r\n"),
        };
        let new = New {
            mode,
            flags: flags.number(b'F').unwrap_or(0) as u32,
            expires_at: self.end(flags.time(b'T').unwrap_or(0)),
            data,
            cas: flags.number(b'C'),
            invalidate: flags.has(b'I'),
            base64: flags.has(b'b'),
        };
        let stored = self.store(key, new);
        let code: &[u8] = match stored {
            Stored::Yes => b"HD",
            Stored::No => b"NS",
            Stored::Exists => b"EX",
            Stored::NotFound => b"NF",
            Stored::TooLarge => return answer.out.extend_from_slice(TOO_LARGE),
        };
        let cas = if stored == Stored::Yes { self.cas } else { 0 };
        answer.out.extend_from_slice(code);
        finish(answer, flags, flags.has(b'b'), Some(cas));
    }

    fn meta_delete(&mut self, key: &[u8], flags: &Flags<'_>, answer: Answer<'_>) {
        let end = flags.time(b'T').map(|time| self.end(time));
        let cas = self.cas + 1;
        let code: &[u8] = match self.live(key) {
            None => b"NF",
            Some(item) if flags.number(b'C').is_some_and(|cas| cas != item.cas) => b"EX",
            Some(item) if flags.has(b'I') => {
                if let Some(end) = end {
                    item.expires_at = end;
                }
                (item.stale, item.won, item.cas) = (true, false, cas);
                self.cas = cas;
                b"HD"
            }
            Some(_) => {
                self.items.remove(key);
                b"HD"
            }
        };
        answer.out.extend_from_slice(code);
        finish(answer, flags, flags.has(b'b'), None);
    }

    fn meta_arithmetic(&mut self, key: &[u8], flags: &Flags<'_>, answer: Answer<'_>) {
        let down = match flags.token(b'M') {
            None | Some(b"I" | b"i" | b"+") => false,
            Some(b"D" | b"d" | b"-") => true,
            Some([_]) => return answer.out.extend_from_slice(b"CLIENT_ERROR invalid mode for ma M token\r\n"),
            Some(_) => return answer.out.extend_from_slice(b"CLIENT_ERROR incorrect length for M token\r\n"),
        };
        let base64 = flags.has(b'b');
        match self.live(key).map(|item| item.cas) {
            None => {
                let Some(time) = flags.time(b'N') else {
                    answer.out.extend_from_slice(b"NF");
                    return finish(answer, flags, base64, None);
                };
                let seed = flags.number(b'J').unwrap_or(0).to_string();
                let new = New {
                    mode: Mode::Add,
                    flags: 0,
                    expires_at: self.end(time),
                    data: seed.as_bytes(),
                    cas: None,
                    invalidate: false,
                    base64,
                };
                self.store(key, new);
            }
            Some(cas) if flags.number(b'C').is_some_and(|wanted| wanted != cas) => {
                answer.out.extend_from_slice(b"EX");
                return finish(answer, flags, base64, None);
            }
            Some(_) => {
                if self.count(key, flags.number(b'D').unwrap_or(1), down).is_none() {
                    return answer.out.extend_from_slice(NOT_NUMERIC);
                }
                let end = flags.time(b'T').map(|time| self.end(time));
                if let (Some(end), Some(item)) = (end, self.live(key)) {
                    item.expires_at = end;
                }
            }
        }
        let now = self.now;
        let Some(mut item) = self.items.get(key).cloned() else { return };
        item.base64 |= base64;
        let left = item.expires_at.map(|at| at.saturating_sub(now));
        tell(answer, flags, &item, Some((false, 0, left)), |_| {});
    }

    fn meta_debug(&mut self, key: &[u8], answer: Answer<'_>) {
        let now = self.now;
        let Some(item) = self.live(key) else { return answer.out.extend_from_slice(b"EN\r\n") };
        let end = item.expires_at.map_or(-1, |at| at.saturating_sub(now) as i64);
        let text = format!(
            " exp={end} la={} cas={} fetch={} cls=1 size={}\r\n",
            now.saturating_sub(item.seen_at),
            item.cas,
            if item.hit { "yes" } else { "no" },
            item.data.len() + key.len()
        );
        answer.out.extend_from_slice(b"ME ");
        answer.out.extend_from_slice(answer.key);
        answer.out.extend_from_slice(text.as_bytes());
    }
}

/// The rest of a reply that tells nothing of an item, but perhaps its cas id.
fn finish(mut answer: Answer<'_>, flags: &Flags<'_>, base64: bool, cas: Option<u64>) {
    match cas {
        None => answer.echo(flags, base64),
        Some(cas) => {
            for word in flags.words {
                if word[0] == b'c' {
                    answer.number(b'c', cas);
                } else {
                    answer.echo_one(word, base64);
                }
            }
        }
    }
    answer.end(None);
}

/// A whole reply about an item: what is asked of it in the order in which it is asked, then `last`.
/// Known beside the item: was it hit before, how long ago was it seen, how long has it left.
fn tell(
    mut answer: Answer<'_>,
    flags: &Flags<'_>,
    item: &Item,
    known: Option<(bool, u64, Option<u64>)>,
    last: impl FnOnce(&mut Answer<'_>),
) {
    let with_data = flags.has(b'v');
    match with_data {
        true => {
            answer.out.extend_from_slice(b"VA ");
            write_number(item.data.len() as u64, answer.out);
        }
        false => answer.out.extend_from_slice(b"HD"),
    }
    let (hit, age, left) = known.unwrap_or((false, 0, None));
    for word in flags.words {
        match word[0] {
            b'c' => answer.number(b'c', item.cas),
            b'f' => answer.number(b'f', item.flags.into()),
            b's' => answer.number(b's', item.data.len() as u64),
            b'h' => answer.number(b'h', u64::from(hit)),
            b'l' => answer.number(b'l', age),
            b't' => match left {
                Some(left) => answer.number(b't', left),
                None => answer.part(b't', b"-1"),
            },
            _ => answer.echo_one(word, item.base64),
        }
    }
    last(&mut answer);
    answer.end(with_data.then_some(item.data.as_slice()));
}
