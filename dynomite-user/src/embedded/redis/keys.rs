//! Keys, whatever they hold: there or not, when they end, under which name, and walks over all of them.

use super::arguments::{Arguments, bulk_or_null, count, integer, is, ok};
use super::fail::{Fail, NO_KEY, Outcome, SYNTAX};
use super::store::Store;
use crate::embedded::dict::Dict;
use crate::embedded::number::parse_integer;
use crate::protocol::resp::{encode, glob};

pub fn del(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    count(arguments[1..].iter().filter(|key| store.remove(key).is_some()).count(), out);
    Ok(())
}

pub fn exists(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    count(arguments[1..].iter().filter(|key| store.contains(key)).count(), out);
    Ok(())
}

pub fn type_of(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    encode::status(store.value(arguments[1]).map_or("none", super::value::Value::type_name), out);
    Ok(())
}

/// Units and beginnings of the four ways to say when a key ends.
#[derive(Clone, Copy)]
struct Clock {
    unit: i64,
    absolute: bool,
}

const SECONDS: Clock = Clock { unit: 1000, absolute: false };
const MILLIS: Clock = Clock { unit: 1, absolute: false };
const EPOCH_SECONDS: Clock = Clock { unit: 1000, absolute: true };
const EPOCH_MILLIS: Clock = Clock { unit: 1, absolute: true };

pub fn expire(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    end(store, arguments, SECONDS, "expire", out)
}

pub fn pexpire(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    end(store, arguments, MILLIS, "pexpire", out)
}

pub fn expireat(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    end(store, arguments, EPOCH_SECONDS, "expireat", out)
}

pub fn pexpireat(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    end(store, arguments, EPOCH_MILLIS, "pexpireat", out)
}

fn end(store: &mut Store, arguments: Arguments<'_>, clock: Clock, name: &str, out: &mut Vec<u8>) -> Outcome {
    let (mut new, mut old, mut later, mut sooner) = (false, false, false, false);
    for option in &arguments[3..] {
        match option.to_ascii_lowercase().as_slice() {
            b"nx" => new = true,
            b"xx" => old = true,
            b"gt" => later = true,
            b"lt" => sooner = true,
            _ => return Err(Fail::said(format!("ERR Unsupported option {}", String::from_utf8_lossy(option)))),
        }
    }
    if new && (old || later || sooner) {
        return Err(Fail::of("ERR NX and XX, GT or LT options at the same time are not compatible"));
    }
    if later && sooner {
        return Err(Fail::of("ERR GT and LT options at the same time are not compatible"));
    }
    let number = integer(arguments[2])?;
    let from = if clock.absolute { 0 } else { i64::try_from(store.now_millis).unwrap_or(i64::MAX) };
    let at = number.checked_mul(clock.unit).and_then(|millis| millis.checked_add(from));
    let at = at.ok_or_else(|| Fail::expire_time(name))?;
    let Some(entry) = store.entry(arguments[1]) else { return Ok(count(0, out)) };
    let before = entry.expires_at.map(|before| i64::try_from(before).unwrap_or(i64::MAX));
    // No end is later than any.
    let refused = (new && before.is_some())
        || (old && before.is_none())
        || (later && before.is_none_or(|before| at <= before))
        || (sooner && before.is_some_and(|before| at >= before));
    if refused {
        return Ok(count(0, out));
    }
    match u64::try_from(at) {
        Ok(at) if at > store.now_millis => store.set_expiry(arguments[1], Some(at)),
        _ => _ = store.remove(arguments[1]),
    }
    count(1, out);
    Ok(())
}

pub fn ttl(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    left(store, arguments[1], SECONDS, out)
}

pub fn pttl(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    left(store, arguments[1], MILLIS, out)
}

pub fn expiretime(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    left(store, arguments[1], EPOCH_SECONDS, out)
}

pub fn pexpiretime(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    left(store, arguments[1], EPOCH_MILLIS, out)
}

fn left(store: &Store, key: &[u8], clock: Clock, out: &mut Vec<u8>) -> Outcome {
    let answer = match store.entry(key).map(|entry| entry.expires_at) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => {
            let millis = if clock.absolute { at } else { at.saturating_sub(store.now_millis) } as i64;
            if clock.unit == 1 { millis } else { millis.saturating_add(500) / clock.unit }
        }
    };
    encode::integer(answer, out);
    Ok(())
}

pub fn persist(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let ends = store.entry(arguments[1]).is_some_and(|entry| entry.expires_at.is_some());
    if ends {
        store.set_expiry(arguments[1], None);
    }
    count(usize::from(ends), out);
    Ok(())
}

pub fn rename(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    if !store.contains(arguments[1]) {
        return Err(NO_KEY);
    }
    move_to(store, arguments[1], arguments[2]);
    ok(out);
    Ok(())
}

pub fn renamenx(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    if !store.contains(arguments[1]) {
        return Err(NO_KEY);
    }
    let free = !store.contains(arguments[2]);
    if free {
        move_to(store, arguments[1], arguments[2]);
    }
    count(usize::from(free), out);
    Ok(())
}

fn move_to(store: &mut Store, from: &[u8], to: &[u8]) {
    if from != to
        && let Some(entry) = store.remove(from)
    {
        store.put(to, entry.value, entry.expires_at);
    }
}

pub fn copy(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let mut replace = false;
    let mut at = 3;
    while at < arguments.len() {
        if is(arguments[at], "replace") {
            replace = true;
        } else if is(arguments[at], "db") && at + 1 < arguments.len() {
            if integer(arguments[at + 1])? != 0 {
                return Err(Fail::of("ERR DB index is out of range"));
            }
            at += 1;
        } else {
            return Err(SYNTAX);
        }
        at += 1;
    }
    if arguments[1] == arguments[2] {
        return Err(Fail::of("ERR source and destination objects are the same"));
    }
    let entry = store.entry(arguments[1]).cloned();
    let copied = match entry {
        Some(entry) if replace || !store.contains(arguments[2]) => {
            store.put(arguments[2], entry.value, entry.expires_at);
            true
        }
        _ => false,
    };
    count(usize::from(copied), out);
    Ok(())
}

pub fn keys(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let found = store.entries().keys().filter(|key| glob::matches(arguments[1], key));
    encode::array_head(found.clone().count(), out);
    found.for_each(|key| encode::bulk(key, out));
    Ok(())
}

pub fn randomkey(store: &mut Store, _: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let place = store.random() as u32;
    bulk_or_null(store.entries().near(place).map(|(key, _)| key), out);
    Ok(())
}

pub fn dbsize(store: &mut Store, _: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    count(store.entries().len(), out);
    Ok(())
}

pub fn flush(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    match arguments {
        [_] => {}
        [_, how] if is(how, "async") || is(how, "sync") => {}
        _ => return Err(SYNTAX),
    }
    store.clear();
    ok(out);
    Ok(())
}

pub fn scan(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let scan = Scan::of(arguments, 1)?;
    scan.walk(store.entries(), out, |key, entry, found| {
        if scan.kind.as_deref().is_none_or(|kind| is(kind, entry.value.type_name())) {
            found.push(key.to_vec());
        }
    });
    Ok(())
}

/// `cursor [MATCH pattern] [COUNT n] [TYPE type]`.
pub struct Scan {
    cursor: u64,
    pattern: Option<Vec<u8>>,
    count: usize,
    kind: Option<Vec<u8>>,
}

impl Scan {
    /// The cursor is argument `at`.
    pub fn of(arguments: Arguments<'_>, at: usize) -> Outcome<Scan> {
        let cursor = std::str::from_utf8(arguments[at]).ok().and_then(|text| text.parse().ok());
        let cursor = cursor.ok_or(Fail::of("ERR invalid cursor"))?;
        let mut scan = Scan { cursor, pattern: None, count: 10, kind: None };
        let options = &arguments[at + 1..];
        if options.len() % 2 == 1 {
            return Err(SYNTAX);
        }
        for option in options.chunks(2) {
            if is(option[0], "count") {
                let count = integer(option[1])?;
                if count < 1 {
                    return Err(SYNTAX);
                }
                scan.count = count as usize;
            } else if is(option[0], "match") {
                scan.pattern = Some(option[1].to_vec());
            } else if at == 1 && is(option[0], "type") {
                scan.kind = Some(option[1].to_vec());
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(scan)
    }

    /// A step over `dict`; `take` adds what is told of each entry.
    pub fn walk<V>(&self, dict: &Dict<V>, out: &mut Vec<u8>, take: impl Fn(&[u8], &V, &mut Vec<Vec<u8>>)) {
        let mut found = Vec::new();
        let next = dict.scan(self.cursor, self.count, |key, value| {
            if self.pattern.as_deref().is_none_or(|pattern| glob::matches(pattern, key)) {
                take(key, value, &mut found);
            }
        });
        encode::array_head(2, out);
        encode::bulk(next.to_string().as_bytes(), out);
        encode::array_head(found.len(), out);
        found.iter().for_each(|part| encode::bulk(part, out));
    }

    /// The end of a walk over what is not there.
    pub fn nothing(out: &mut Vec<u8>) {
        encode::array_head(2, out);
        encode::bulk(b"0", out);
        encode::array_head(0, out);
    }
}

pub fn object(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    use super::value::Value;
    super::table::check_second(&[("encoding", 3), ("idletime", 3), ("refcount", 3)], arguments)?;
    match arguments[1].to_ascii_lowercase().as_slice() {
        b"encoding" => {
            // The names of Redis' small and large forms, by its default limits; nothing is stored differently here.
            let name = match store.value(arguments[2]) {
                None => return Ok(super::arguments::null(out)),
                Some(Value::Text(text)) if parse_integer(text).is_some() => "int",
                Some(Value::Text(text)) if text.len() <= 44 => "embstr",
                Some(Value::Text(_)) => "raw",
                Some(Value::List(list)) if list.iter().map(Vec::len).sum::<usize>() <= 8192 => "listpack",
                Some(Value::List(_)) => "quicklist",
                Some(Value::Hash(hash)) => {
                    small(hash.len() <= 512 && hash.iter().all(|(f, v)| f.len() <= 64 && v.len() <= 64))
                }
                Some(Value::Set(set)) if set.len() <= 512 && set.keys().all(|key| parse_integer(key).is_some()) => {
                    "intset"
                }
                Some(Value::Set(_)) => "hashtable",
                Some(Value::Sorted(sorted)) if sorted.len() <= 128 && sorted.iter().all(|r| r.member.len() <= 64) => {
                    "listpack"
                }
                Some(Value::Sorted(_)) => "skiplist",
            };
            encode::bulk(name.as_bytes(), out);
        }
        _ => match store.contains(arguments[2]) {
            true => count(usize::from(is(arguments[1], "refcount")), out),
            false => super::arguments::null(out),
        },
    }
    Ok(())
}

fn small(is_small: bool) -> &'static str {
    if is_small { "listpack" } else { "hashtable" }
}
