//! Hashes.

use super::arguments::{Arguments, bulk_or_null, count, integer, is, null, ok};
use super::fail::{Fail, NOT_A_NUMBER, NOT_FLOAT, OUT_OF_RANGE, OVERFLOW, Outcome, SYNTAX};
use super::store::Store;
use crate::embedded::dict::Dict;
use crate::embedded::number::{add_floats, parse_float, parse_integer};
use crate::protocol::resp::encode;

/// Puts all pairs, and says how many fields are new.
fn put_all(store: &mut Store, arguments: Arguments<'_>) -> Outcome<usize> {
    let hash = store.hash_or_new(arguments[1])?;
    let new = arguments[2..].chunks(2).filter(|pair| hash.insert(pair[0], pair[1].to_vec()).is_none()).count();
    store.changed(arguments[1]);
    Ok(new)
}

pub fn hset(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    if arguments.len() % 2 == 1 {
        return Err(Fail::arity("hset"));
    }
    let new = put_all(store, arguments)?;
    count(new, out);
    Ok(())
}

pub fn hmset(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    if arguments.len() % 2 == 1 {
        return Err(Fail::arity("hmset"));
    }
    put_all(store, arguments)?;
    ok(out);
    Ok(())
}

pub fn hsetnx(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let is_new = store.hash(arguments[1])?.is_none_or(|hash| !hash.contains(arguments[2]));
    if is_new {
        put_all(store, arguments)?;
    }
    count(usize::from(is_new), out);
    Ok(())
}

pub fn hget(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let value = store.hash(arguments[1])?.and_then(|hash| hash.get(arguments[2]));
    bulk_or_null(value.map(Vec::as_slice), out);
    Ok(())
}

pub fn hmget(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let hash = store.hash(arguments[1])?;
    encode::array_head(arguments.len() - 2, out);
    for field in &arguments[2..] {
        bulk_or_null(hash.and_then(|hash| hash.get(field)).map(Vec::as_slice), out);
    }
    Ok(())
}

pub fn hdel(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let Some(hash) = store.hash_mut(arguments[1])? else { return Ok(count(0, out)) };
    let gone = arguments[2..].iter().filter(|field| hash.remove(field).is_some()).count();
    count(gone, out);
    if gone > 0 {
        store.changed(arguments[1]);
        store.drop_if_empty(arguments[1]);
    }
    Ok(())
}

pub fn hlen(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    count(store.hash(arguments[1])?.map_or(0, Dict::len), out);
    Ok(())
}

pub fn hstrlen(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    count(store.hash(arguments[1])?.and_then(|hash| hash.get(arguments[2])).map_or(0, Vec::len), out);
    Ok(())
}

pub fn hexists(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let here = store.hash(arguments[1])?.is_some_and(|hash| hash.contains(arguments[2]));
    count(usize::from(here), out);
    Ok(())
}

pub fn hkeys(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    all(store, arguments, true, false, out)
}

pub fn hvals(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    all(store, arguments, false, true, out)
}

pub fn hgetall(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    all(store, arguments, true, true, out)
}

fn all(store: &Store, arguments: Arguments<'_>, fields: bool, values: bool, out: &mut Vec<u8>) -> Outcome {
    let hash = store.hash(arguments[1])?;
    let each = usize::from(fields) + usize::from(values);
    encode::array_head(hash.map_or(0, Dict::len) * each, out);
    for (field, value) in hash.into_iter().flat_map(Dict::iter) {
        if fields {
            encode::bulk(field, out);
        }
        if values {
            encode::bulk(value, out);
        }
    }
    Ok(())
}

pub fn hincrby(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let step = integer(arguments[3])?;
    let number = match store.hash(arguments[1])?.and_then(|hash| hash.get(arguments[2])) {
        Some(value) => parse_integer(value).ok_or(Fail::of("ERR hash value is not an integer"))?,
        None => 0,
    };
    let sum = number.checked_add(step).ok_or(OVERFLOW)?;
    store.hash_or_new(arguments[1])?.insert(arguments[2], sum.to_string().into_bytes());
    store.changed(arguments[1]);
    encode::integer(sum, out);
    Ok(())
}

pub fn hincrbyfloat(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let step = parse_float(arguments[3]).ok_or(NOT_FLOAT)?;
    let value = store.hash(arguments[1])?.and_then(|hash| hash.get(arguments[2])).map_or(&b"0"[..], Vec::as_slice);
    if parse_float(value).is_none() {
        return Err(Fail::of("ERR hash value is not a float"));
    }
    if step.is_infinite() {
        return Err(Fail::of("ERR value is NaN or Infinity"));
    }
    let sum = add_floats(value, arguments[3]).ok_or(NOT_A_NUMBER)?;
    store.hash_or_new(arguments[1])?.insert(arguments[2], sum.clone().into_bytes());
    store.changed(arguments[1]);
    encode::bulk(sum.as_bytes(), out);
    Ok(())
}

pub fn hrandfield(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    if arguments.len() == 2 {
        let place = store.random() as u32;
        let field = store.hash(arguments[1])?.and_then(|hash| hash.near(place)).map(|(field, _)| field);
        bulk_or_null(field, out);
        return Ok(());
    }
    let wanted = integer(arguments[2])?;
    let with_values = match arguments.len() {
        3 => false,
        4 if is(arguments[3], "withvalues") => true,
        _ => return Err(SYNTAX),
    };
    if wanted < -i64::MAX / 2 || with_values && wanted.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(OUT_OF_RANGE);
    }
    let picked = pick(store, arguments[1], wanted, |store, key| {
        let pairs = store.hash(key)?.map(|hash| hash.iter().map(|(f, v)| (f.to_vec(), v.clone())).collect());
        Ok(pairs.unwrap_or_default())
    })?;
    encode::array_head(picked.len() * if with_values { 2 } else { 1 }, out);
    for (field, value) in picked {
        encode::bulk(&field, out);
        if with_values {
            encode::bulk(&value, out);
        }
    }
    Ok(())
}

/// Elements picked at random: each once at most if `wanted` is positive, some perhaps more than once if it is negative.
pub fn pick<T: Clone>(
    store: &mut Store,
    key: &[u8],
    wanted: i64,
    all: impl FnOnce(&Store, &[u8]) -> Outcome<Vec<T>>,
) -> Outcome<Vec<T>> {
    let mut all = all(store, key)?;
    if all.is_empty() {
        return Ok(all);
    }
    if wanted < 0 {
        return Ok((0..wanted.unsigned_abs()).map(|_| all[store.random() as usize % all.len()].clone()).collect());
    }
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(all.len());
    for at in 0..wanted {
        let other = at + store.random() as usize % (all.len() - at);
        all.swap(at, other);
    }
    all.truncate(wanted);
    Ok(all)
}

pub fn hscan(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let scan = super::keys::Scan::of(arguments, 2)?;
    let Some(hash) = store.hash(arguments[1])? else { return Ok(super::keys::Scan::nothing(out)) };
    scan.walk(hash, out, |field, value, found| {
        found.push(field.to_vec());
        found.push(value.clone());
    });
    Ok(())
}

/// Not used by hashes alone: a reply for a collection that is not there.
pub fn nothing(wanted: Option<i64>, out: &mut Vec<u8>) {
    match wanted {
        Some(_) => encode::array_head(0, out),
        None => null(out),
    }
}
