//! Read repair's scripts, each as a function: what the texts of `protocol::resp::repair` do to a Redis, these do to the
//! store, call by call. `tests/against_redis/repair.rs` holds them against their texts.
//! Owns: nothing; the notes are sorted sets among the data. What they mean stands in `protocol::resp::repair`.

mod notes;

use std::sync::LazyLock;

use notes::{Late, Notes, Told, is_newer, number_of, too_late};

use super::arguments::{Arguments, count, null, ok};
use super::fail::{Fail, Outcome};
use super::script::Script;
use super::store::Store;
use crate::embedded::number::parse_integer;
use crate::protocol::resp::encode;
use crate::protocol::resp::repair::{REMEMBERED_MILLIS, Script as Name};

/// Every script of ours, for `Store::knowing`.
pub fn scripts() -> &'static [Script] {
    static SCRIPTS: LazyLock<[Script; Name::ALL.len()]> = LazyLock::new(|| {
        Name::ALL.map(|name| Script {
            text: name.text(),
            sha1: std::str::from_utf8(name.sha()).expect("digits are text"),
            run: match name {
                Name::Get => get,
                Name::GetField => get_field,
                Name::Set => set,
                Name::SetMany => set_many,
                Name::Remove => remove,
                Name::Put => put,
                Name::RemoveFields => remove_fields,
                Name::Run => run,
                Name::Stamp => stamp,
                Name::Clean => clean,
            },
        })
    });
    &*SCRIPTS
}

/// A call that `protocol::resp::repair` did not make.
const NOT_OURS: Fail = Fail::of("ERR wrong arguments for this script");
/// So many fields go into one call: more do not fit on Lua's stack.
const FIELDS_MAX: usize = 500;
/// From here on Lua's numbers are not exact.
const EXACT_MAX: u64 = 1 << 53;

fn get(store: &mut Store, keys: Arguments<'_>, args: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (mut notes, keys) = Notes::of(store, keys)?;
    let key = word(keys, 0)?;
    let value = notes.ask(&[word(args, 0)?, key]);
    if value.is_error() {
        return Ok(value.write(out));
    }
    let mut time = notes.score(notes.first, key)?;
    let mut status = b"E";
    if time.is_none() || value.is_nothing() {
        if time.is_some() {
            notes.call(&[b"ZREM", notes.first, key])?;
            notes.forget(key)?;
        }
        time = notes.score(notes.second, key)?;
        status = if time.is_some() { b"R" } else { b"X" };
    }
    notes.held(key, status, time.as_deref(), &value, args.len() > 3, out)
}

fn get_field(store: &mut Store, keys: Arguments<'_>, args: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (mut notes, keys) = Notes::of(store, keys)?;
    let (key, field) = (word(keys, 0)?, word(args, 3)?);
    let value = notes.ask(&[word(args, 0)?, key, field]);
    if value.is_error() {
        return Ok(value.write(out));
    }
    let (added, removed) = notes.kept_of(key);
    let mut time = match notes.score(notes.second, key)? {
        None => notes.score(&removed, field)?,
        known => known,
    };
    let mut status = b"R";
    if time.is_none() {
        status = b"E";
        if notes.score(notes.first, key)?.is_some() {
            time = notes.score(&added, field)?;
        }
        if time.is_none() || value.is_nothing() || value.number() == Some(0) {
            (status, time) = (b"X", None);
        }
    }
    notes.held(key, status, time.as_deref(), &value, args.len() > 4, out)
}

fn set(store: &mut Store, keys: Arguments<'_>, args: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (mut notes, keys) = Notes::of(store, keys)?;
    let (key, condition, stamp) = (word(keys, 0)?, word(args, 1)?, word(args, 2)?);
    let time = number_of(stamp)?;
    let command = [&[word(args, 0)?, key], &args[3..]].concat();
    if condition != b"0" && notes.exists(key) == (condition == b"nx") {
        return Ok(notes.ask(&command).write(out));
    }
    let gone = notes.score(notes.second, key)?;
    let known = match &gone {
        None => notes.score(notes.first, key)?,
        gone => gone.clone(),
    };
    if let Some(known) = known.filter(|known| is_newer(known, time)) {
        return Ok(too_late(&[known], out));
    }
    let reply = notes.ask(&command);
    if !reply.is_error() {
        notes.note_write(key, stamp, gone.is_some())?;
        notes.tidy(notes.first, notes.second, time)?;
    }
    Ok(reply.write(out))
}

fn set_many(store: &mut Store, keys: Arguments<'_>, args: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (mut notes, keys) = Notes::of(store, keys)?;
    let stamp = word(args, 2)?;
    let (time, mut late) = (number_of(stamp)?, Late::default());
    for (at, key) in keys.iter().enumerate() {
        let gone = notes.score(notes.second, key)?;
        let known = match &gone {
            None => notes.score(notes.first, key)?,
            gone => gone.clone(),
        };
        if late.takes(known.as_deref(), time) {
            continue;
        }
        let reply = notes.ask(&[b"SET", key, word(args, 3 + at)?]);
        if reply.is_error() {
            return Ok(reply.write(out));
        }
        notes.note_write(key, stamp, gone.is_some())?;
    }
    notes.tidy(notes.first, notes.second, time)?;
    Ok(late.or(out, ok))
}

fn remove(store: &mut Store, keys: Arguments<'_>, args: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (mut notes, keys) = Notes::of(store, keys)?;
    let (command, stamp) = (word(args, 0)?, word(args, 2)?);
    let (time, mut late, mut result) = (number_of(stamp)?, Late::default(), None);
    for key in keys {
        let known = notes.score(notes.second, key)?;
        if late.takes(known.as_deref(), time) {
            continue;
        }
        let reply = notes.ask(&[command, key]);
        if reply.is_error() {
            return Ok(reply.write(out));
        }
        result = match (result.as_ref().and_then(Told::number), reply.number()) {
            (Some(before), Some(more)) => Some(Told::of_number(before + more)),
            _ => Some(reply),
        };
        if !notes.has_newer(notes.first, key, time)? {
            notes.call(&[b"ZADD", notes.first, stamp, key])?;
        }
        if known.is_some() {
            notes.call(&[b"ZREM", notes.second, key])?;
        }
        notes.forget(key)?;
    }
    notes.tidy(notes.second, notes.first, time)?;
    Ok(late.or(out, |out| match &result {
        Some(result) => result.write(out),
        None => null(out),
    }))
}

/// An element is a member, a field and its value, or a score and its member.
fn put(store: &mut Store, keys: Arguments<'_>, args: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (mut notes, keys) = Notes::of(store, keys)?;
    let (key, command, stamp) = (word(keys, 0)?, word(args, 0)?, word(args, 3)?);
    let (options, count) = (size_of(args, 1)?, size_of(args, 2)?);
    let time = number_of(stamp)?;
    let gone = notes.score(notes.second, key)?;
    if let Some(gone) = gone.clone().filter(|gone| is_newer(gone, time)) {
        return Ok(too_late(&[gone], out));
    }
    let (added, removed) = notes.kept_of(key);
    let width = if command == b"SADD" { 1 } else { 2 };
    let place = usize::from(command == b"ZADD");
    let is_fresh = !notes.exists(key);
    if options > 0 {
        let kind = notes.ask(&[b"ZCARD", key]);
        if kind.is_error() {
            return Ok(notes.ask(&[&[command, key], args.get(5..).unwrap_or_default()].concat()).write(out));
        }
    }
    let options_at = args.get(5..5 + options).ok_or(NOT_OURS)?;
    let elements = args.get(5 + options..5 + options + count * width).ok_or(NOT_OURS)?;
    let (mut late, mut sum, mut reply, mut is_stamped) = (Late::default(), 0, None, false);
    for chunk in elements.chunks(FIELDS_MAX * width) {
        let mut call = [&[command, key], options_at].concat();
        let mut names = Vec::new();
        for element in chunk.chunks(width) {
            let name = element[place];
            let dropped = notes.score(&removed, name)?;
            let known = match &dropped {
                None => notes.score(&added, name)?,
                dropped => dropped.clone(),
            };
            if !late.takes(known.as_deref(), time) {
                let before = if options > 0 { notes.score(key, name)? } else { None };
                names.push((name, dropped.is_some(), before));
                call.extend_from_slice(element);
            }
        }
        if names.is_empty() {
            continue;
        }
        let told = notes.ask(&call);
        if told.is_error() {
            return Ok(told.write(out));
        }
        sum += told.number().unwrap_or_default();
        reply = Some(told);
        for (name, was_dropped, before) in names {
            if options == 0 || notes.score(key, name)? != before {
                notes.call(&[b"ZADD", &added, stamp, name])?;
                if was_dropped {
                    notes.call(&[b"ZREM", &removed, name])?;
                }
                is_stamped = true;
            }
        }
    }
    if is_stamped {
        if !notes.has_newer(notes.first, key, time)? {
            notes.call(&[b"ZADD", notes.first, stamp, key])?;
        }
        if gone.is_some() {
            notes.call(&[b"ZREM", notes.second, key])?;
        }
        let ttl = word(args, 4)?;
        if is_fresh && number_of(ttl)? > 0.0 {
            notes.call(&[b"PEXPIRE", key, ttl])?;
        }
        notes.tidy(notes.first, notes.second, time)?;
    }
    Ok(late.or(out, |out| match reply {
        Some(reply) if reply.number().is_some() => encode::integer(sum, out),
        Some(reply) => reply.write(out),
        None => null(out),
    }))
}

fn remove_fields(store: &mut Store, keys: Arguments<'_>, args: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (mut notes, keys) = Notes::of(store, keys)?;
    let (key, command, stamp) = (word(keys, 0)?, word(args, 0)?, word(args, 2)?);
    let fields = args.get(3..3 + size_of(args, 1)?).ok_or(NOT_OURS)?;
    let time = number_of(stamp)?;
    let (removed, added) = notes.kept_of(key);
    let (mut late, mut sum) = (Late::default(), 0);
    for chunk in fields.chunks(FIELDS_MAX) {
        let mut call = vec![command, key];
        let mut were_there = Vec::new();
        for &name in chunk {
            let known = notes.score(&added, name)?;
            if !late.takes(known.as_deref(), time) {
                call.push(name);
                were_there.push(known.is_some());
            }
        }
        if were_there.is_empty() {
            continue;
        }
        let reply = notes.ask(&call);
        if reply.is_error() {
            return Ok(reply.write(out));
        }
        sum += reply.number().unwrap_or_default();
        for (name, was_there) in call[2..].iter().zip(were_there) {
            if !notes.has_newer(&removed, name, time)? {
                notes.call(&[b"ZADD", &removed, stamp, name])?;
            }
            if was_there {
                notes.call(&[b"ZREM", &added, name])?;
            }
        }
    }
    notes.forget_before(&removed, time - REMEMBERED_MILLIS as f64)?;
    notes.call(&[b"PEXPIRE", &removed, REMEMBERED_MILLIS.to_string().as_bytes()])?;
    if !notes.exists(key) {
        notes.call(&[b"ZREM", notes.second, key])?;
        notes.call(&[b"DEL", &added])?;
    }
    notes.tidy(notes.second, notes.first, time)?;
    Ok(late.or(out, |out| encode::integer(sum, out)))
}

/// A role for each key: `-` is read, `k` is changed, `o` is overwritten as a whole.
fn run(store: &mut Store, keys: Arguments<'_>, args: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (mut notes, keys) = Notes::of(store, keys)?;
    let (roles, stamp, probe) = (word(args, 1)?, word(args, 2)?, word(args, 4)?);
    let fields = args.get(6..6 + size_of(args, 5)?).ok_or(NOT_OURS)?;
    let keys = keys.get(..roles.len()).ok_or(NOT_OURS)?;
    let there: Vec<bool> = keys.iter().map(|key| notes.exists(key)).collect();
    let reply = notes.ask(&[&[word(args, 0)?], &args[6 + fields.len()..]].concat());
    let is_quiet = word(args, 3)? == b"1" && reply.number().is_some_and(|number| number <= 0);
    if reply.is_error() || is_quiet {
        return Ok(reply.write(out));
    }
    let (first, second) = (notes.first, notes.second);
    for ((key, role), was_there) in keys.iter().zip(roles).zip(there).filter(|((_, role), _)| **role != b'-') {
        let exists = notes.exists(key);
        if exists {
            notes.changed(first, second, key, stamp)?;
        } else if was_there {
            notes.changed(second, first, key, stamp)?;
        }
        if *role == b'o' || !exists {
            notes.forget(key)?;
            continue;
        }
        let (added, removed) = notes.kept_of(key);
        for name in fields {
            let value = notes.call(&[probe, key, name])?;
            if !value.is_nothing() && value.number() != Some(0) {
                notes.shift(&added, &removed, name, stamp)?;
            } else if notes.score(&added, name)?.is_some() {
                notes.shift(&removed, &added, name, stamp)?;
            }
        }
    }
    notes.tidy(first, second, number_of(stamp)?)?;
    if reply.number().is_some_and(|number| number.unsigned_abs() >= EXACT_MAX) {
        let whole = match fields.first() {
            Some(field) => notes.call(&[b"HGET", word(keys, 0)?, field])?,
            None => notes.call(&[b"GET", word(keys, 0)?])?,
        };
        return Ok(whole.write(out));
    }
    Ok(reply.write(out))
}

fn stamp(store: &mut Store, keys: Arguments<'_>, args: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (mut notes, keys) = Notes::of(store, keys)?;
    let (first, second, stamp) = (notes.first, notes.second, word(args, 2)?);
    for key in keys {
        if notes.exists(key) {
            notes.changed(first, second, key, stamp)?;
        } else if notes.score(first, key)?.is_some() {
            notes.changed(second, first, key, stamp)?;
            notes.forget(key)?;
        }
    }
    notes.tidy(first, second, number_of(stamp)?)?;
    Ok(ok(out))
}

fn clean(store: &mut Store, keys: Arguments<'_>, args: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (mut notes, keys) = Notes::of(store, keys)?;
    let (fields, time) = (size_of(args, 1)?, number_of(word(args, 2)?)?);
    let (_, of_fields) = notes.kept_of(word(keys, 0)?);
    let (index, names) = match fields {
        0 => (notes.second, keys),
        _ => (of_fields.as_slice(), args.get(3..3 + fields).ok_or(NOT_OURS)?),
    };
    let mut cleaned = 0;
    for name in names {
        if notes.score(index, name)?.is_some_and(|known| !is_newer(&known, time)) {
            notes.call(&[b"ZREM", index, name])?;
            cleaned += 1;
        }
    }
    Ok(count(cleaned, out))
}

fn word<'a>(words: Arguments<'a>, at: usize) -> Outcome<&'a [u8]> {
    words.get(at).copied().ok_or(NOT_OURS)
}

fn size_of(words: Arguments<'_>, at: usize) -> Outcome<usize> {
    let size = parse_integer(word(words, at)?).and_then(|size| usize::try_from(size).ok());
    size.filter(|size| *size <= words.len()).ok_or(NOT_OURS)
}
