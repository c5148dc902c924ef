//! What read repair's scripts have in common: the notes they keep, and replies as Lua sees them.
//! Owns: how a note is kept. Which script keeps which stands in `repair`.

use super::NOT_OURS;
use crate::embedded::number::{parse_float, parse_integer};
use crate::embedded::redis::arguments::{Arguments, null};
use crate::embedded::redis::fail::{Fail, Outcome};
use crate::embedded::redis::store::Store;
use crate::protocol::resp::encode;
use crate::protocol::resp::repair::REMEMBERED_MILLIS;

const RUN: &[u8] = b"._run-set";

/// What every script works on: the store, and the two indexes, the one that gains the name first.
pub struct Notes<'a> {
    store: &'a mut Store,
    pub first: &'a [u8],
    pub second: &'a [u8],
}

impl<'a> Notes<'a> {
    /// And the other keys.
    pub fn of<'b>(store: &'a mut Store, keys: &'b [&'a [u8]]) -> Outcome<(Notes<'a>, &'b [&'a [u8]])> {
        match keys {
            [rest @ .., first, second] => Ok((Notes { store, first, second }, rest)),
            _ => Err(NOT_OURS),
        }
    }

    /// Whatever the command says.
    pub fn ask(&mut self, command: Arguments<'_>) -> Told {
        let mut frame = Vec::new();
        self.store.call(command, &mut frame);
        Told(frame)
    }

    /// The command's error is the script's.
    pub fn call(&mut self, command: Arguments<'_>) -> Outcome<Told> {
        let told = self.ask(command);
        match told.0.strip_prefix(b"-") {
            Some(text) => Err(Fail::said(String::from_utf8_lossy(text.trim_ascii_end()).into_owned())),
            None => Ok(told),
        }
    }

    pub fn exists(&self, key: &[u8]) -> bool {
        self.store.contains(key)
    }

    pub fn score(&mut self, index: &[u8], name: &[u8]) -> Outcome<Option<Vec<u8>>> {
        Ok(self.call(&[b"ZSCORE", index, name])?.text().map(<[u8]>::to_vec))
    }

    pub fn has_newer(&mut self, index: &[u8], name: &[u8], time: f64) -> Outcome<bool> {
        Ok(self.score(index, name)?.is_some_and(|known| is_newer(&known, time)))
    }

    /// Where the same is kept about a key's fields.
    pub fn kept_of(&self, key: &[u8]) -> (Vec<u8>, Vec<u8>) {
        ([self.first, b"_", key].concat(), [self.second, b"_", key].concat())
    }

    pub fn forget(&mut self, key: &[u8]) -> Outcome {
        let (one, other) = self.kept_of(key);
        self.call(&[b"DEL", &one, &other])?;
        Ok(())
    }

    pub fn forget_before(&mut self, index: &[u8], time: f64) -> Outcome {
        self.call(&[b"ZREMRANGEBYSCORE", index, b"-inf", time.to_string().as_bytes()])?;
        Ok(())
    }

    /// The key was overwritten as a whole.
    pub fn note_write(&mut self, key: &[u8], stamp: &[u8], was_gone: bool) -> Outcome {
        self.call(&[b"ZADD", self.first, stamp, key])?;
        if was_gone {
            self.call(&[b"ZREM", self.second, key])?;
        }
        self.forget(key)
    }

    /// A name moves from one index to the other, or stays; its time never goes back.
    pub fn shift(&mut self, into: &[u8], from: &[u8], name: &[u8], stamp: &[u8]) -> Outcome {
        let (there, here) = (self.score(from, name)?, self.score(into, name)?);
        let mut stamp = stamp;
        for known in [&there, &here].into_iter().flatten() {
            if is_newer(known, number_of(stamp)?) {
                stamp = known;
            }
        }
        if here.as_deref() != Some(stamp) {
            self.call(&[b"ZADD", into, stamp, name])?;
        }
        if there.is_some() {
            self.call(&[b"ZREM", from, name])?;
        }
        Ok(())
    }

    /// The same of a key that a command changed which builds on what it finds.
    pub fn changed(&mut self, into: &[u8], from: &[u8], key: &[u8], stamp: &[u8]) -> Outcome {
        self.shift(into, from, key, stamp)?;
        if !self.has_newer(RUN, key, number_of(stamp)?)? {
            self.call(&[b"ZADD", RUN, stamp, key])?;
        }
        Ok(())
    }

    /// Every eighth write looks whether some of what is noted is gone.
    pub fn tidy(&mut self, added: &[u8], removed: &[u8], time: f64) -> Outcome {
        if time % 8.0 != 0.0 {
            return Ok(());
        }
        let known = self.call(&[b"ZCARD", added])?.number().unwrap_or_default();
        if known > 0 {
            let at = time % 1_048_576.0 * 40503.0 % known as f64;
            let (from, to) = (at.to_string(), (at + 15.0).to_string());
            for key in self.call(&[b"ZRANGE", added, from.as_bytes(), to.as_bytes()])?.elements() {
                if !self.exists(&key) {
                    self.call(&[b"ZREM", added, &key])?;
                    self.forget(&key)?;
                }
            }
        }
        let before = (time - REMEMBERED_MILLIS as f64).to_string();
        let oldest = self.call(&[b"ZRANGEBYSCORE", removed, b"-inf", before.as_bytes(), b"LIMIT", b"0", b"16"])?;
        for key in oldest.elements() {
            self.call(&[b"ZREM", removed, &key])?;
        }
        self.forget_before(RUN, time - 600_000.0)
    }

    /// A read's answer.
    pub fn held(
        &mut self,
        key: &[u8],
        status: &[u8],
        time: Option<&[u8]>,
        value: &Told,
        with_more: bool,
        out: &mut Vec<u8>,
    ) -> Outcome {
        encode::array_head(if with_more { 5 } else { 3 }, out);
        encode::bulk(status, out);
        match time {
            Some(time) => encode::bulk(time, out),
            None => encode::integer(0, out),
        }
        value.write(out);
        if with_more {
            self.call(&[b"PTTL", key])?.write(out);
            let changed = self.score(RUN, key)?;
            encode::bulk(changed.as_deref().unwrap_or(b"0"), out);
        }
        Ok(())
    }
}

/// The times that were newer than a write's, the latest first.
#[derive(Default)]
pub struct Late(Vec<Vec<u8>>);

impl Late {
    /// Is what is known newer? Then it is taken notice of.
    pub fn takes(&mut self, known: Option<&[u8]>, time: f64) -> bool {
        let Some(known) = known.filter(|known| is_newer(known, time)) else { return false };
        let latest = self.0.first();
        if latest.is_none_or(|latest| latest != known) {
            let leads = latest.and_then(|latest| parse_float(latest)).is_some_and(|latest| is_newer(known, latest));
            self.0.push(known.to_vec());
            if leads {
                let last = self.0.len() - 1;
                self.0.swap(0, last);
            }
        }
        true
    }

    pub fn or(self, out: &mut Vec<u8>, reply: impl FnOnce(&mut Vec<u8>)) {
        if self.0.is_empty() { reply(out) } else { too_late(&self.0, out) }
    }
}

/// A command's reply.
pub struct Told(Vec<u8>);

impl Told {
    pub fn of_number(number: i64) -> Told {
        let mut frame = Vec::new();
        encode::integer(number, &mut frame);
        Told(frame)
    }

    pub fn is_error(&self) -> bool {
        self.0.starts_with(b"-")
    }

    pub fn is_nothing(&self) -> bool {
        self.0.starts_with(b"$-1") || self.0.starts_with(b"*-1")
    }

    pub fn number(&self) -> Option<i64> {
        parse_integer(self.0.strip_prefix(b":")?.trim_ascii_end())
    }

    pub fn text(&self) -> Option<&[u8]> {
        bulk(&self.0).map(|(text, _)| text)
    }

    /// Of an array of strings.
    pub fn elements(&self) -> Vec<Vec<u8>> {
        let mut elements = Vec::new();
        let mut rest = memchr::memchr(b'\n', &self.0).map_or(&[][..], |end| &self.0[end + 1..]);
        while let Some((text, behind)) = bulk(rest) {
            elements.push(text.to_vec());
            rest = behind;
        }
        elements
    }

    /// As Lua gives it back: of nulls it knows one.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.is_nothing() { null(out) } else { out.extend_from_slice(&self.0) }
    }
}

/// A string, and what is behind it.
fn bulk(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = frame.strip_prefix(b"$")?;
    let end = memchr::memchr(b'\r', rest)?;
    let len = usize::try_from(parse_integer(&rest[..end])?).ok()?;
    let rest = rest.get(end + 2..)?;
    Some((rest.get(..len)?, rest.get(len + 2..)?))
}

pub fn too_late(times: &[Vec<u8>], out: &mut Vec<u8>) {
    encode::array_head(1 + times.len(), out);
    encode::bulk(b"O", out);
    times.iter().for_each(|time| encode::bulk(time, out));
}

pub fn is_newer(known: &[u8], time: f64) -> bool {
    parse_float(known).is_some_and(|known| known > time)
}

pub fn number_of(text: &[u8]) -> Outcome<f64> {
    parse_float(text).ok_or(NOT_OURS)
}
