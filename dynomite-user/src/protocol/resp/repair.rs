//! Read repair on the wire: requests become scripts that note when a key was last written or removed, and answers say it.
//! Owns: how such requests and answers are spelled. Knows nothing of: replicas; who is asked, and who is out of date, is
//! the coordinator's matter.
//!
//! Beside its data a datastore keeps two sorted sets, `._add-set` and `._rem-set`: name of a key → time of its last write,
//! of its removal. `._add-set_<key>` and `._rem-set_<key>` say the same of the fields or members of one key. C nodes keep
//! the same sets with scripts of their own, so that nodes of both kinds may read and repair what either wrote. A third one,
//! `._run-set`, is ours alone: keys that were changed lately by a command that builds on what it finds.
//!
//! - A read answers `[status, time, value]`: `E` it exists, `R` it was removed, `X` nothing is known (then the time is 0).
//! - A write that comes too late, behind a newer one, changes nothing and answers `[O, time of the newer one]`; of several
//!   keys or fields those that are not late are written, and there are as many times as there are newer ones, the latest
//!   first.

mod rules;
mod scripts;

use smallvec::SmallVec;

use super::arguments::Arguments;
use super::encode;
use super::head::{Head, number};
use crate::protocol::Protocol;
use crate::protocol::request::Request;
use rules::{Fields, Roles, Rule, Run};
pub use scripts::{REMEMBERED_MILLIS, Script, Sha, sha};

const ADDED: &[u8] = b"._add-set";
const REMOVED: &[u8] = b"._rem-set";
const RUN: &[u8] = b"._run-set";

/// What a request is asked as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    rule: Rule,
    /// Integers that Lua could not hold come as strings.
    pub is_integer: bool,
    /// Whoever executes it says OK.
    pub says_ok: bool,
}

/// Arguments of a call; few need more.
type Words<'a> = SmallVec<[&'a [u8]; 16]>;

impl Rewrite {
    /// `None`: it is sent as it is, and leaves no trace.
    #[inline]
    pub fn of(request: &Request<'_>) -> Option<Rewrite> {
        if request.protocol != Protocol::Resp {
            return None;
        }
        let rule = rules::rule_of(request)?;
        // Who works on the sets themselves knows what they do.
        let ours = |key: &[u8]| [ADDED, REMOVED, RUN].iter().any(|set| key.starts_with(set));
        if request.key.is_none() || request.keys().any(ours) {
            return None;
        }
        let is_integer = matches!(request.command.name, "incr" | "decr" | "incrby" | "decrby" | "hincrby");
        let says_ok = match request.command.name {
            "setex" | "psetex" | "mset" | "hmset" => true,
            "set" => !request.arguments().skip(3).any(|option| option.eq_ignore_ascii_case(b"get")),
            _ => false,
        };
        Some(Rewrite { rule, is_integer, says_ok })
    }

    pub fn is_read(&self) -> bool {
        matches!(self.rule, Rule::Get | Rule::GetField)
    }

    /// Does it leave notes that may be forgotten when every replica has them?
    pub fn is_removal(&self) -> bool {
        matches!(self.rule, Rule::Remove | Rule::RemoveFields)
    }

    /// Is it skipped where something newer is known? The replies of others may look as if they were.
    fn may_be_late(&self) -> bool {
        matches!(self.rule, Rule::Set | Rule::SetMany | Rule::Remove | Rule::Put | Rule::RemoveFields)
    }

    /// The times of newer writes, the latest first, if the reply says that this one came too late.
    pub fn late_behind<'a>(&self, reply: &'a [u8]) -> Option<impl Iterator<Item = u64> + use<'a>> {
        if self.may_be_late() { late_behind(reply) } else { None }
    }

    /// The latest of them.
    pub fn too_late(&self, reply: &[u8]) -> Option<u64> {
        self.late_behind(reply)?.next()
    }

    /// Does its reply count what it found? Replicas that executed it may count differently: to one of them a repair may have
    /// brought what it writes before it came itself.
    pub fn counts(&self) -> bool {
        matches!(self.rule, Rule::Put | Rule::Remove | Rule::RemoveFields)
    }

    /// The request itself is sent as it is, and the call right behind it.
    pub fn follows(&self) -> bool {
        self.rule == Rule::Follow
    }

    /// The call for a request, with the time of its writing. `buffer` is used again.
    pub fn call(&self, request: &Request<'_>, time: u64, buffer: Vec<u8>) -> Call {
        let time = Digits::of(time);
        let name = request.command.name.split(' ').next().unwrap_or_default().to_uppercase();
        let (name, rest) = (name.as_bytes(), request.arguments().skip(1));
        let keys: Words<'_> = request.keys().collect();
        let args = request.args as usize;
        let call = |script, words: Words<'_>| Call::new(script, &keys, &words, buffer);
        match self.rule {
            Rule::Get => call(Script::Get, words([name, b"0", time.text()], [])),
            Rule::GetField => call(Script::GetField, words([name, b"1", time.text()], rest.skip(1))),
            Rule::Set => call(Script::Set, words([name, condition(request), time.text()], rest.skip(1))),
            Rule::SetMany => {
                let count = Digits::of(keys.len() as u64);
                call(Script::SetMany, words([name, count.text(), time.text()], rest.skip(1).step_by(2)))
            }
            Rule::Remove => call(Script::Remove, words([name, b"0", time.text()], [])),
            Rule::Put => {
                let options = if name == b"ZADD" { rules::zadd_options(request) } else { 0 };
                let width = if name == b"SADD" { 1 } else { 2 };
                let count = Digits::of(((args - 2 - options) / width) as u64);
                let options = Digits::of(options as u64);
                let head = [name, options.text(), count.text(), time.text(), b"0"];
                call(Script::Put, words(head, rest.skip(1)))
            }
            Rule::RemoveFields => {
                let count = Digits::of((args - 2) as u64);
                call(Script::RemoveFields, words([name, count.text(), time.text()], rest.skip(1)))
            }
            Rule::Run(run) => {
                let roles = roles(run.roles, keys.len());
                let (probe, fields) = fields(run, request);
                let count = Digits::of(fields.len() as u64);
                let quiet: &[u8] = if run.quiet { b"1" } else { b"0" };
                let head = [name, &roles, time.text(), quiet, probe.as_bytes(), count.text()];
                call(Script::Run, words(head, fields.iter().copied().chain(rest)))
            }
            Rule::Follow => call(Script::Stamp, words([b"STAMP", b"0", time.text()], [])),
        }
    }
}

fn words<'a, const N: usize>(head: [&'a [u8]; N], rest: impl IntoIterator<Item = &'a [u8]>) -> Words<'a> {
    head.into_iter().chain(rest).collect()
}

/// What `set.lua` asks of the key before the command is run.
fn condition(request: &Request<'_>) -> &'static [u8] {
    match request.command.name {
        "setnx" => b"nx",
        "set" => {
            let mut options = request.arguments().skip(3);
            let is = |option: &[u8], word: &str| option.eq_ignore_ascii_case(word.as_bytes());
            let found = options.find_map(|option| match option {
                option if is(option, "nx") => Some(&b"nx"[..]),
                option if is(option, "xx") => Some(&b"xx"[..]),
                _ => None,
            });
            found.unwrap_or(b"0")
        }
        _ => b"0",
    }
}

fn roles(roles: Roles, keys: usize) -> SmallVec<[u8; 16]> {
    let mut letters: SmallVec<[u8; 16]> = SmallVec::from_elem(b'-', keys);
    match roles {
        Roles::Change => letters.fill(b'k'),
        Roles::Overwrite => letters.fill(b'o'),
        Roles::OverwriteFirst => letters.iter_mut().take(1).for_each(|letter| *letter = b'o'),
        Roles::OverwriteLast => letters.iter_mut().rev().take(1).for_each(|letter| *letter = b'o'),
        Roles::Rename => letters.iter_mut().zip(*b"ko").for_each(|(letter, role)| *letter = role),
    }
    letters
}

fn fields<'a>(run: Run, request: &Request<'a>) -> (&'static str, Words<'a>) {
    let one = |argument: Option<&'a [u8]>| argument.into_iter().collect();
    match run.fields {
        Fields::None => ("", Words::new()),
        Fields::At { probe, at } => (probe, one(request.argument(at))),
        Fields::Last { probe } => (probe, one(request.arguments().last())),
        // Their number of options is whatever is left over behind whole groups of three.
        Fields::Thirds => {
            let options = (request.args as usize - 2) % 3;
            ("ZSCORE", request.arguments().skip(2 + options + 2).step_by(3).collect())
        }
    }
}

/// A request that runs one of our scripts: `EVALSHA <digest> <keys> <key>… <set> <set> <argument>…`. The sets stand in the
/// order in which the script takes them, the one that gains the name first.
#[derive(Debug)]
pub struct Call {
    pub script: Script,
    frame: Vec<u8>,
    /// Where the time's argument stands, and where what is behind the digest begins.
    time_at: usize,
    keys_at: usize,
}

impl Call {
    fn new(script: Script, keys: &[&[u8]], words: &[&[u8]], mut out: Vec<u8>) -> Call {
        out.clear();
        let sets = match script {
            Script::Remove | Script::RemoveFields => [REMOVED, ADDED],
            _ => [ADDED, REMOVED],
        };
        encode::array_head(3 + keys.len() + 2 + words.len(), &mut out);
        encode::bulk(b"EVALSHA", &mut out);
        encode::bulk(script.sha(), &mut out);
        let keys_at = out.len();
        encode::bulk(Digits::of(keys.len() as u64 + 2).text(), &mut out);
        for word in keys.iter().chain(&sets) {
            encode::bulk(word, &mut out);
        }
        let mut time_at = 0;
        for (place, word) in words.iter().enumerate() {
            if place == time_place(script) {
                time_at = out.len();
            }
            encode::bulk(word, &mut out);
        }
        Call { script, frame: out, time_at, keys_at }
    }

    /// By its digest: for datastores that have the script. Others say NOSCRIPT.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// With its text, which is for everybody.
    pub fn write_text(&self, out: &mut Vec<u8>) {
        let arguments = match number(&self.frame, 1) {
            Head::Number { value, .. } => usize::try_from(value).unwrap_or_default(),
            _ => 0,
        };
        out.reserve(self.script.text().len() + self.frame.len());
        encode::array_head(arguments, out);
        encode::bulk(b"EVAL", out);
        encode::bulk(self.script.text().as_bytes(), out);
        out.extend_from_slice(&self.frame[self.keys_at..]);
    }

    pub fn time(&self) -> u64 {
        self.words().nth(time_place(self.script)).and_then(parse).unwrap_or_default()
    }

    pub fn set_time(&mut self, time: u64) {
        let Head::Number { value, next } = number(&self.frame, self.time_at + 1) else { return };
        let end = next + usize::try_from(value).unwrap_or_default() + 2;
        let mut argument = Vec::new();
        encode::bulk(Digits::of(time).text(), &mut argument);
        self.frame.splice(self.time_at..end, argument);
    }

    /// The same read, answered with two further elements: how many milliseconds the key has to live, and when a command
    /// that builds on what it finds last changed it.
    pub fn with_more(&self) -> Call {
        let mut words: Words<'_> = self.words().collect();
        words.push(b"more");
        Call::new(self.script, &self.keys(), &words, Vec::new())
    }

    /// What brings a replica up to `held`, which another one answered to this read. `None`: nothing does.
    pub fn mend(&self, held: &Held<'_>) -> Option<Call> {
        let time = Digits::of(held.time);
        let keys = self.keys();
        let command = self.words().next()?;
        let field = self.words().nth(3).filter(|_| self.script == Script::GetField);
        let ttl = Digits::of(held.ttl.unwrap_or_default());
        let name = |hash, set, sorted_set| match command {
            b"HGET" => hash,
            b"ZSCORE" => sorted_set,
            _ => set,
        };
        let (script, words) = match (held.status, field) {
            (Status::Unknown, _) => return None,
            (Status::Exists, None) => {
                let lives = [&b"PX"[..], ttl.text()].into_iter().filter(|_| held.ttl.is_some());
                (Script::Set, words([b"SET", b"0", time.text(), held.bulk()?], lives))
            }
            (Status::Removed, None) => (Script::Remove, words([b"DEL", b"0", time.text()], [])),
            (Status::Exists, Some(field)) => {
                let head = [name(&b"HSET"[..], b"SADD", b"ZADD"), b"0", b"1", time.text(), ttl.text()];
                let element: Words<'_> = match command {
                    b"HGET" => words([field, held.bulk()?], []),
                    b"ZSCORE" => words([held.bulk()?, field], []),
                    _ => words([field], []),
                };
                (Script::Put, words(head, element))
            }
            (Status::Removed, Some(field)) => {
                let name = name(&b"HDEL"[..], b"SREM", b"ZREM");
                (Script::RemoveFields, words([name, b"1", time.text(), field], []))
            }
        };
        Some(Call::new(script, &keys, &words, Vec::new()))
    }

    /// What forgets this removal, when every replica has seen it.
    pub fn cleanup(&self) -> Call {
        let mut words: Words<'_> = SmallVec::from_slice(&[&b"CLEAN"[..]]);
        words.extend(self.words().skip(1));
        Call::new(Script::Clean, &self.keys(), &words, Vec::new())
    }

    pub fn into_buffer(self) -> Vec<u8> {
        self.frame
    }

    fn keys(&self) -> Words<'_> {
        let count = self.all_keys().saturating_sub(2);
        Arguments::of(&self.frame).skip(3).take(count).collect()
    }

    /// What the script has as ARGV.
    fn words(&self) -> impl Iterator<Item = &[u8]> {
        Arguments::of(&self.frame).skip(3 + self.all_keys())
    }

    fn all_keys(&self) -> usize {
        Arguments::of(&self.frame).nth(2).and_then(parse).unwrap_or_default() as usize
    }
}

impl Clone for Call {
    fn clone(&self) -> Call {
        Call { frame: self.frame.clone(), ..*self }
    }
}

/// The time's place among a script's arguments.
fn time_place(script: Script) -> usize {
    if script == Script::Put { 3 } else { 2 }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Exists,
    Removed,
    /// The datastore knows no time: it lost it, or never had one.
    Unknown,
}

/// What a replica holds, as it answered to a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held<'a> {
    pub status: Status,
    pub time: u64,
    /// The reply that the request itself would have had.
    pub value: &'a [u8],
    /// Milliseconds, if it was asked for and the key does not live for ever.
    pub ttl: Option<u64>,
    /// When it was last changed by a command that builds on what it finds; 0 if that is long ago, or was not asked for.
    pub changed: u64,
}

impl<'a> Held<'a> {
    /// `None` for errors, and for what is no such answer.
    pub fn of(reply: &'a [u8]) -> Option<Held<'a>> {
        let (count, status, rest) = tagged(reply)?;
        let (time, rest) = element(rest)?;
        let (value, rest) = element(rest)?;
        let (ttl, changed) = match count {
            3 => (None, 0),
            5 => {
                let (ttl, rest) = element(rest)?;
                let (changed, _) = element(rest)?;
                // A key about to go is not one that stays.
                let ttl = parse(ttl.get(1..)?.trim_ascii_end()).map(|ttl| ttl.max(1));
                (ttl, bulk(changed).and_then(parse).unwrap_or_default())
            }
            _ => return None,
        };
        let unknown = Held { status: Status::Unknown, time: 0, value, ttl, changed };
        let status = match status {
            b'E' => Status::Exists,
            b'R' => Status::Removed,
            b'X' => return Some(unknown),
            _ => return None,
        };
        match bulk(time).and_then(parse) {
            Some(time) => Some(Held { status, time, ..unknown }),
            // A time that we cannot read is none.
            None => Some(unknown),
        }
    }

    fn bulk(&self) -> Option<&'a [u8]> {
        // SISMEMBER's is a number, which nobody asks for.
        bulk(self.value)
    }
}

/// For what brings a replica up to date: the time of what is newer there.
pub fn too_late(reply: &[u8]) -> Option<u64> {
    late_behind(reply)?.next()
}

fn late_behind(reply: &[u8]) -> Option<impl Iterator<Item = u64>> {
    let mut words = Arguments::of(reply);
    if !reply.starts_with(b"*") || words.next()? != b"O" {
        return None;
    }
    let latest = parse(words.next()?)?;
    // A time that we cannot read is none that we gave.
    Some(std::iter::once(latest).chain(words.map(|time| parse(time).unwrap_or_default())))
}

/// The datastore does not have the script.
pub fn is_unknown_script(reply: &[u8]) -> bool {
    reply.starts_with(b"-NOSCRIPT")
}

/// A reply as the request itself would have had it.
pub fn plain<'a>(rewrite: Rewrite, reply: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    if rewrite.is_read() {
        return Held::of(reply).map_or(reply, |held| held.value);
    }
    match bulk(reply) {
        Some(digits) if rewrite.is_integer => {
            scratch.clear();
            scratch.push(b':');
            scratch.extend_from_slice(digits);
            scratch.extend_from_slice(b"\r\n");
            scratch
        }
        _ => reply,
    }
}

/// An array that begins with a string of one letter: how many elements it has, the letter, and what is behind it.
fn tagged(reply: &[u8]) -> Option<(i64, u8, &[u8])> {
    match reply {
        [b'*', count @ b'2'..=b'5', b'\r', b'\n', b'$', b'1', b'\r', b'\n', letter, b'\r', b'\n', rest @ ..] => {
            Some((i64::from(count - b'0'), *letter, rest))
        }
        _ => None,
    }
}

/// The first element, which is no array, and what is behind it.
fn element(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = match bytes.first()? {
        b'$' => match number(bytes, 1) {
            Head::Number { value, next } if value < 0 => next,
            Head::Number { value, next } => next.checked_add(usize::try_from(value).ok()?)?.checked_add(2)?,
            _ => return None,
        },
        b':' | b'+' => memchr::memchr(b'\n', bytes)? + 1,
        _ => return None,
    };
    bytes.split_at_checked(end)
}

/// What a string holds.
fn bulk(element: &[u8]) -> Option<&[u8]> {
    match (element.first()?, number(element, 1)) {
        (b'$', Head::Number { value, next }) => element.get(next..next.checked_add(usize::try_from(value).ok()?)?),
        _ => None,
    }
}

/// A number without a sign, within what a datastore's score holds exactly.
fn parse(text: &[u8]) -> Option<u64> {
    const EXACT_MAX: u64 = 1 << 53;
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    let value = text.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'9' => Some(value * 10 + u64::from(digit - b'0')),
        _ => None,
    })?;
    (value < EXACT_MAX).then_some(value)
}

/// A number's text.
struct Digits {
    bytes: [u8; 20],
    start: usize,
}

impl Digits {
    fn of(mut value: u64) -> Digits {
        let mut digits = Digits { bytes: [0; 20], start: 20 };
        loop {
            digits.start -= 1;
            digits.bytes[digits.start] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                return digits;
            }
        }
    }

    fn text(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests;
