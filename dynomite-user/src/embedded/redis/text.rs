//! Strings.

use super::arguments::{Arguments, bulk_or_null, count, integer, is, null, ok, range};
use super::fail::{Fail, NOT_A_NUMBER, NOT_FLOAT, NOT_INTEGER, OVERFLOW, Outcome, SYNTAX, TOO_LONG, WRONG_TYPE};
use super::store::Store;
use super::value::Value;
use crate::embedded::number::{add_floats, parse_float, parse_integer};
use crate::protocol::resp::encode;

/// Redis' `proto-max-bulk-len`.
pub const TEXT_BYTES_MAX: usize = 512 << 20;

pub fn get(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    bulk_or_null(store.text(arguments[1])?.map(Vec::as_slice), out);
    Ok(())
}

/// When a value ends, as the options of SET and GETEX say it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Unsaid,
    At(u64),
    Keep,
    Never,
}

/// `EX 10`, `PX 10`, `EXAT …`, `PXAT …`: when that is. `at` is the option's place; its number stands behind it.
fn ending(store: &Store, arguments: Arguments<'_>, at: usize, name: &str) -> Outcome<Option<u64>> {
    let option = arguments[at];
    let (unit, from) = if is(option, "ex") {
        (1000, store.now_millis)
    } else if is(option, "px") {
        (1, store.now_millis)
    } else if is(option, "exat") {
        (1000, 0)
    } else if is(option, "pxat") {
        (1, 0)
    } else {
        return Ok(None);
    };
    let number = integer(arguments.get(at + 1).ok_or(SYNTAX)?)?;
    expires_at(number, unit, from).map(Some).ok_or_else(|| Fail::expire_time(name))
}

/// A time that is not in the past of its own count, if it can be told.
fn expires_at(number: i64, unit: i64, from: u64) -> Option<u64> {
    if number <= 0 {
        return None;
    }
    let at = number.checked_mul(unit)?.checked_add(i64::try_from(from).ok()?)?;
    u64::try_from(at).ok()
}

pub fn set(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (key, text) = (arguments[1], arguments[2]);
    let (mut only_new, mut only_old, mut tell) = (false, false, false);
    let mut end = Ending::Unsaid;
    let mut bad_time = None;
    let mut at = 3;
    while at < arguments.len() {
        let option = arguments[at];
        if is(option, "nx") && !only_old {
            only_new = true;
        } else if is(option, "xx") && !only_new {
            only_old = true;
        } else if is(option, "get") {
            tell = true;
        } else if is(option, "keepttl") && end == Ending::Unsaid {
            end = Ending::Keep;
        } else if end == Ending::Unsaid && ["ex", "px", "exat", "pxat"].iter().any(|word| is(option, word)) {
            if at + 1 == arguments.len() {
                return Err(SYNTAX);
            }
            // The whole line is looked at before the number is.
            match ending(store, arguments, at, "set") {
                Ok(Some(time)) => end = Ending::At(time),
                Ok(None) => {}
                Err(fail) => (bad_time, end) = (Some(fail), Ending::Never),
            }
            at += 1;
        } else {
            return Err(SYNTAX);
        }
        at += 1;
    }
    if let Some(fail) = bad_time {
        return Err(fail);
    }
    if tell {
        get(store, arguments, out)?;
    }
    if (only_new && store.contains(key)) || (only_old && !store.contains(key)) {
        if !tell {
            null(out);
        }
        return Ok(());
    }
    match end {
        Ending::At(time) => store.put(key, Value::Text(text.to_vec()), Some(time)),
        Ending::Keep => store.put_text_in_place(key, text.to_vec()),
        _ => store.put(key, Value::Text(text.to_vec()), None),
    }
    if !tell {
        ok(out);
    }
    Ok(())
}

pub fn setnx(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let is_new = !store.contains(arguments[1]);
    if is_new {
        store.put(arguments[1], Value::Text(arguments[2].to_vec()), None);
    }
    count(usize::from(is_new), out);
    Ok(())
}

pub fn setex(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    set_for(store, arguments, 1000, "setex", out)
}

pub fn psetex(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    set_for(store, arguments, 1, "psetex", out)
}

fn set_for(store: &mut Store, arguments: Arguments<'_>, unit: i64, name: &str, out: &mut Vec<u8>) -> Outcome {
    let time = expires_at(integer(arguments[2])?, unit, store.now_millis).ok_or_else(|| Fail::expire_time(name))?;
    store.put(arguments[1], Value::Text(arguments[3].to_vec()), Some(time));
    ok(out);
    Ok(())
}

pub fn getset(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    get(store, arguments, out)?;
    store.put(arguments[1], Value::Text(arguments[2].to_vec()), None);
    Ok(())
}

pub fn getdel(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    get(store, arguments, out)?;
    store.remove(arguments[1]);
    Ok(())
}

pub fn getex(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let end = match arguments.len() {
        2 => Ending::Unsaid,
        3 if is(arguments[2], "persist") => Ending::Never,
        4 if ["ex", "px", "exat", "pxat"].iter().any(|word| is(arguments[2], word)) => {
            match ending(store, arguments, 2, "getex") {
                Ok(time) => time.map_or(Ending::Unsaid, Ending::At),
                // A key that is not there is told before a bad number is.
                Err(fail) => return store.text(arguments[1])?.map_or_else(|| Ok(null(out)), |_| Err(fail)),
            }
        }
        _ => return Err(SYNTAX),
    };
    get(store, arguments, out)?;
    match end {
        Ending::At(time) if time <= store.now_millis => _ = store.remove(arguments[1]),
        Ending::At(time) => store.set_expiry(arguments[1], Some(time)),
        Ending::Never => store.set_expiry(arguments[1], None),
        _ => {}
    }
    Ok(())
}

pub fn mget(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    encode::array_head(arguments.len() - 1, out);
    for key in &arguments[1..] {
        bulk_or_null(store.text(key).ok().flatten().map(Vec::as_slice), out);
    }
    Ok(())
}

pub fn mset(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    if arguments.len().is_multiple_of(2) {
        return Err(Fail::arity("mset"));
    }
    put_all(store, arguments);
    ok(out);
    Ok(())
}

pub fn msetnx(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    if arguments.len().is_multiple_of(2) {
        return Err(Fail::arity("msetnx"));
    }
    let all_new = arguments[1..].chunks(2).all(|pair| !store.contains(pair[0]));
    if all_new {
        put_all(store, arguments);
    }
    count(usize::from(all_new), out);
    Ok(())
}

fn put_all(store: &mut Store, arguments: Arguments<'_>) {
    for pair in arguments[1..].chunks(2) {
        store.put(pair[0], Value::Text(pair[1].to_vec()), None);
    }
}

pub fn append(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (key, more) = (arguments[1], arguments[2]);
    if store.text(key)?.map_or(0, Vec::len) + more.len() > TEXT_BYTES_MAX {
        return Err(TOO_LONG);
    }
    let text = store.text_or_new(key)?;
    text.extend_from_slice(more);
    count(text.len(), out);
    store.changed(key);
    Ok(())
}

pub fn strlen(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    count(store.text(arguments[1])?.map_or(0, Vec::len), out);
    Ok(())
}

pub fn setrange(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (key, part) = (arguments[1], arguments[3]);
    let offset = integer(arguments[2])?;
    let offset = usize::try_from(offset).map_err(|_| Fail::of("ERR offset is out of range"))?;
    if part.is_empty() {
        count(store.text(key)?.map_or(0, Vec::len), out);
        return Ok(());
    }
    store.text(key)?;
    let end = offset.checked_add(part.len()).filter(|&end| end <= TEXT_BYTES_MAX).ok_or(TOO_LONG)?;
    let text = store.text_or_new(key)?;
    if text.len() < end {
        text.resize(end, 0);
    }
    text[offset..end].copy_from_slice(part);
    count(text.len(), out);
    store.changed(key);
    Ok(())
}

pub fn getrange(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (start, stop) = (integer(arguments[2])?, integer(arguments[3])?);
    let text = store.text(arguments[1])?.map_or(&b""[..], Vec::as_slice);
    // Two ends counted from the end in the wrong order: nothing, though the range would clamp to the first byte.
    let (from, len) = if start < 0 && stop < 0 && start > stop { (0, 0) } else { clamped(start, stop, text.len()) };
    encode::bulk(&text[from..from + len], out);
    Ok(())
}

/// As `range`, but an end before the beginning is the first byte.
fn clamped(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let stop = if stop < 0 { (stop + len as i64).max(0) } else { stop };
    range(start, stop, len)
}

pub fn incr(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    add(store, arguments[1], 1, out)
}

pub fn decr(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    add(store, arguments[1], -1, out)
}

pub fn incrby(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    add(store, arguments[1], integer(arguments[2])?, out)
}

pub fn decrby(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let step = integer(arguments[2])?.checked_neg().ok_or(Fail::of("ERR decrement would overflow"))?;
    add(store, arguments[1], step, out)
}

fn add(store: &mut Store, key: &[u8], step: i64, out: &mut Vec<u8>) -> Outcome {
    let number = match store.text(key)? {
        Some(text) => parse_integer(text).ok_or(NOT_INTEGER)?,
        None => 0,
    };
    let sum = number.checked_add(step).ok_or(OVERFLOW)?;
    store.put_text_in_place(key, sum.to_string().into_bytes());
    encode::integer(sum, out);
    Ok(())
}

pub fn incrbyfloat(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let key = arguments[1];
    let text = store.text(key)?.map_or(&b"0"[..], Vec::as_slice);
    if parse_float(text).is_none() || parse_float(arguments[2]).is_none() {
        return Err(NOT_FLOAT);
    }
    let sum = add_floats(text, arguments[2]).ok_or(NOT_A_NUMBER)?;
    store.put_text_in_place(key, sum.clone().into_bytes());
    encode::bulk(sum.as_bytes(), out);
    Ok(())
}

/// The longest common subsequence, its length, or where its parts are.
pub fn lcs(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let text_of = |key| match store.value(key) {
        Some(Value::Text(text)) => Ok(text.as_slice()),
        Some(_) => Err(WRONG_TYPE.0),
        None => Ok(&b""[..]),
    };
    let (Ok(left), Ok(right)) = (text_of(arguments[1]), text_of(arguments[2])) else {
        return Err(Fail::of("ERR The specified keys must contain string values"));
    };
    let (mut only_len, mut places, mut with_len, mut len_min) = (false, false, false, 0);
    let mut at = 3;
    while at < arguments.len() {
        let option = arguments[at];
        if is(option, "len") {
            only_len = true;
        } else if is(option, "idx") {
            places = true;
        } else if is(option, "withmatchlen") {
            with_len = true;
        } else if is(option, "minmatchlen") && at + 1 < arguments.len() {
            len_min = usize::try_from(integer(arguments[at + 1])?).unwrap_or(0);
            at += 1;
        } else {
            return Err(SYNTAX);
        }
        at += 1;
    }
    if only_len && places {
        return Err(Fail::of("ERR If you want both the length and indexes, please just use IDX."));
    }
    let width = right.len() + 1;
    let mut best = vec![0u32; (left.len() + 1) * width];
    for (i, a) in left.iter().enumerate() {
        for (j, b) in right.iter().enumerate() {
            best[(i + 1) * width + j + 1] = match a == b {
                true => best[i * width + j] + 1,
                false => best[i * width + j + 1].max(best[(i + 1) * width + j]),
            };
        }
    }
    let len = best[best.len() - 1] as usize;
    if only_len {
        count(len, out);
        return Ok(());
    }
    let mut common = Vec::with_capacity(len);
    // Ranges that match, from the last to the first: where each begins in both, and its length.
    let mut matches: Vec<(usize, usize, usize)> = Vec::new();
    let (mut i, mut j) = (left.len(), right.len());
    while i > 0 && j > 0 {
        if left[i - 1] == right[j - 1] {
            common.push(left[i - 1]);
            (i, j) = (i - 1, j - 1);
            match matches.last_mut() {
                Some((a, b, len)) if *a == i + 1 && *b == j + 1 => (*a, *b, *len) = (i, j, *len + 1),
                _ => matches.push((i, j, 1)),
            }
        } else if best[(i - 1) * width + j] > best[i * width + j - 1] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    if !places {
        common.reverse();
        encode::bulk(&common, out);
        return Ok(());
    }
    matches.retain(|(_, _, len)| *len >= len_min);
    encode::array_head(4, out);
    encode::bulk(b"matches", out);
    encode::array_head(matches.len(), out);
    for (a, b, len) in matches {
        encode::array_head(if with_len { 3 } else { 2 }, out);
        for from in [a, b] {
            encode::array_head(2, out);
            count(from, out);
            count(from + len - 1, out);
        }
        if with_len {
            count(len, out);
        }
    }
    encode::bulk(b"len", out);
    count(len, out);
    Ok(())
}
