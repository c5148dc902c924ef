//! Lists.

use std::collections::VecDeque;

use super::arguments::{
    Arguments, bulk_or_null, count, count_or_null, counted_keys, integer, is, null, null_array, ok, positive, range,
    timeout_millis,
};
use super::fail::{Fail, NO_KEY, Outcome, SYNTAX};
use super::store::Store;
use crate::embedded::number::parse_integer;
use crate::protocol::resp::encode;

type List = VecDeque<Vec<u8>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Left,
    Right,
}

impl End {
    fn of(argument: &[u8]) -> Outcome<End> {
        match argument.to_ascii_lowercase().as_slice() {
            b"left" => Ok(End::Left),
            b"right" => Ok(End::Right),
            _ => Err(SYNTAX),
        }
    }

    fn push(self, list: &mut List, element: Vec<u8>) {
        match self {
            End::Left => list.push_front(element),
            End::Right => list.push_back(element),
        }
    }

    fn pop(self, list: &mut List) -> Option<Vec<u8>> {
        match self {
            End::Left => list.pop_front(),
            End::Right => list.pop_back(),
        }
    }
}

pub fn lpush(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    push(store, arguments, End::Left, out)
}

pub fn rpush(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    push(store, arguments, End::Right, out)
}

pub fn lpushx(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    push_if_there(store, arguments, End::Left, out)
}

pub fn rpushx(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    push_if_there(store, arguments, End::Right, out)
}

fn push(store: &mut Store, arguments: Arguments<'_>, end: End, out: &mut Vec<u8>) -> Outcome {
    let list = store.list_or_new(arguments[1])?;
    arguments[2..].iter().for_each(|element| end.push(list, element.to_vec()));
    count(list.len(), out);
    store.changed(arguments[1]);
    Ok(())
}

fn push_if_there(store: &mut Store, arguments: Arguments<'_>, end: End, out: &mut Vec<u8>) -> Outcome {
    match store.list(arguments[1])? {
        Some(_) => push(store, arguments, end, out),
        None => Ok(count(0, out)),
    }
}

pub fn lpop(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    pop(store, arguments, End::Left, "lpop", out)
}

pub fn rpop(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    pop(store, arguments, End::Right, "rpop", out)
}

fn pop(store: &mut Store, arguments: Arguments<'_>, end: End, name: &str, out: &mut Vec<u8>) -> Outcome {
    if arguments.len() > 3 {
        return Err(Fail::arity(name));
    }
    let wanted = arguments.get(2).map(|wanted| positive(wanted)).transpose()?;
    match (take(store, arguments[1], end, wanted.unwrap_or(1))?, wanted) {
        (None, None) => null(out),
        (None, Some(_)) => null_array(out),
        (Some(taken), None) => bulk_or_null(taken.first().map(Vec::as_slice), out),
        (Some(taken), Some(_)) => write_all(&taken, out),
    }
    Ok(())
}

/// Takes up to `wanted` elements off one end; nothing if there is no list.
fn take(store: &mut Store, key: &[u8], end: End, wanted: usize) -> Outcome<Option<Vec<Vec<u8>>>> {
    let Some(list) = store.list_mut(key)? else { return Ok(None) };
    let taken: Vec<Vec<u8>> = (0..wanted.min(list.len())).filter_map(|_| end.pop(list)).collect();
    if !taken.is_empty() {
        store.changed(key);
        store.drop_if_empty(key);
    }
    Ok(Some(taken))
}

fn write_all(elements: &[Vec<u8>], out: &mut Vec<u8>) {
    encode::array_head(elements.len(), out);
    elements.iter().for_each(|element| encode::bulk(element, out));
}

pub fn llen(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    count(store.list(arguments[1])?.map_or(0, VecDeque::len), out);
    Ok(())
}

/// An index that may count from the end.
fn index(argument: &[u8], len: usize) -> Outcome<Option<usize>> {
    let at = integer(argument)?;
    let at = if at < 0 { at.checked_add(len as i64) } else { Some(at) };
    Ok(at.and_then(|at| usize::try_from(at).ok()).filter(|&at| at < len))
}

pub fn lindex(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let Some(list) = store.list(arguments[1])? else { return Ok(null(out)) };
    let element = index(arguments[2], list.len())?.map(|at| list[at].as_slice());
    bulk_or_null(element, out);
    Ok(())
}

pub fn lset(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let list = store.list_mut(arguments[1])?.ok_or(NO_KEY)?;
    let at = index(arguments[2], list.len())?.ok_or(Fail::of("ERR index out of range"))?;
    list[at] = arguments[3].to_vec();
    store.changed(arguments[1]);
    ok(out);
    Ok(())
}

pub fn lrange(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (start, stop) = (integer(arguments[2])?, integer(arguments[3])?);
    let list = store.list(arguments[1])?;
    let (from, len) = range(start, stop, list.map_or(0, VecDeque::len));
    encode::array_head(len, out);
    list.into_iter().flat_map(|list| list.range(from..from + len)).for_each(|element| encode::bulk(element, out));
    Ok(())
}

pub fn ltrim(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (start, stop) = (integer(arguments[2])?, integer(arguments[3])?);
    if let Some(list) = store.list_mut(arguments[1])? {
        let (from, len) = range(start, stop, list.len());
        list.truncate(from + len);
        list.drain(..from);
        store.changed(arguments[1]);
        store.drop_if_empty(arguments[1]);
    }
    ok(out);
    Ok(())
}

pub fn lrem(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let wanted = integer(arguments[2])?;
    let Some(list) = store.list_mut(arguments[1])? else { return Ok(count(0, out)) };
    let max = if wanted == 0 { u64::MAX } else { wanted.unsigned_abs() };
    let mut gone = 0;
    let mut keep = |element: &Vec<u8>| {
        let goes = gone < max && element == arguments[3];
        gone += u64::from(goes);
        !goes
    };
    if wanted < 0 {
        let mut kept: List = list.drain(..).rev().filter(|element| keep(element)).collect();
        kept.make_contiguous().reverse();
        *list = kept;
    } else {
        list.retain(keep);
    }
    count(gone as usize, out);
    if gone > 0 {
        store.changed(arguments[1]);
        store.drop_if_empty(arguments[1]);
    }
    Ok(())
}

pub fn linsert(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let behind = match arguments[2].to_ascii_lowercase().as_slice() {
        b"before" => 0,
        b"after" => 1,
        _ => return Err(SYNTAX),
    };
    let Some(list) = store.list_mut(arguments[1])? else { return Ok(count(0, out)) };
    let Some(at) = list.iter().position(|element| element == arguments[3]) else {
        encode::integer(-1, out);
        return Ok(());
    };
    list.insert(at + behind, arguments[4].to_vec());
    count(list.len(), out);
    store.changed(arguments[1]);
    Ok(())
}

pub fn lpos(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (mut rank, mut wanted, mut compared_max) = (1, None, 0);
    if arguments.len().is_multiple_of(2) {
        return Err(SYNTAX);
    }
    for option in arguments[3..].chunks(2) {
        if is(option[0], "rank") {
            rank = integer(option[1])?;
            if rank == 0 {
                return Err(Fail::of(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
                ));
            }
            if rank == i64::MIN {
                return Err(Fail::of(
                    "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
                ));
            }
        } else if is(option[0], "count") {
            wanted = Some(parse_integer(option[1]).filter(|n| *n >= 0).ok_or(Fail::of("ERR COUNT can't be negative"))?);
        } else if is(option[0], "maxlen") {
            compared_max =
                parse_integer(option[1]).filter(|n| *n >= 0).ok_or(Fail::of("ERR MAXLEN can't be negative"))?;
        } else {
            return Err(SYNTAX);
        }
    }
    let Some(list) = store.list(arguments[1])? else { return Ok(super::hash::nothing(wanted, out)) };
    let compared = if compared_max == 0 { list.len() } else { (compared_max as usize).min(list.len()) };
    let hit = |at: &usize| list[*at] == arguments[2];
    let skipped = rank.unsigned_abs() as usize - 1;
    let max = match wanted {
        None => 1,
        Some(0) => usize::MAX,
        Some(wanted) => wanted as usize,
    };
    let found: Vec<usize> = match rank > 0 {
        true => (0..compared).filter(hit).skip(skipped).take(max).collect(),
        false => (list.len() - compared..list.len()).rev().filter(hit).skip(skipped).take(max).collect(),
    };
    match wanted {
        Some(_) => {
            encode::array_head(found.len(), out);
            found.iter().for_each(|&at| count(at, out));
        }
        None => count_or_null(found.first().copied(), out),
    }
    Ok(())
}

/// Moves an element; says whether there was one.
fn shift(store: &mut Store, from: &[u8], to: &[u8], ends: (End, End), out: &mut Vec<u8>) -> Outcome<bool> {
    if store.list(from)?.is_none() {
        return Ok(false);
    }
    store.list(to)?;
    let Some(element) = take(store, from, ends.0, 1)?.and_then(|mut taken| taken.pop()) else { return Ok(false) };
    encode::bulk(&element, out);
    ends.1.push(store.list_or_new(to)?, element);
    store.changed(to);
    Ok(true)
}

pub fn lmove(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let ends = (End::of(arguments[3])?, End::of(arguments[4])?);
    if !shift(store, arguments[1], arguments[2], ends, out)? {
        null(out);
    }
    Ok(())
}

pub fn rpoplpush(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    if !shift(store, arguments[1], arguments[2], (End::Right, End::Left), out)? {
        null(out);
    }
    Ok(())
}

pub fn blmove(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let ends = (End::of(arguments[3])?, End::of(arguments[4])?);
    let timeout = timeout_millis(arguments[5])?;
    wait_to_shift(store, arguments, ends, timeout, out)
}

pub fn brpoplpush(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let timeout = timeout_millis(arguments[3])?;
    wait_to_shift(store, arguments, (End::Right, End::Left), timeout, out)
}

fn wait_to_shift(
    store: &mut Store,
    arguments: Arguments<'_>,
    ends: (End, End),
    timeout: u64,
    out: &mut Vec<u8>,
) -> Outcome {
    if !shift(store, arguments[1], arguments[2], ends, out)? {
        store.stall(&arguments[1..2], timeout);
        null(out);
    }
    Ok(())
}

pub fn blpop(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    wait_to_pop(store, arguments, End::Left, out)
}

pub fn brpop(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    wait_to_pop(store, arguments, End::Right, out)
}

fn wait_to_pop(store: &mut Store, arguments: Arguments<'_>, end: End, out: &mut Vec<u8>) -> Outcome {
    let (timeout, keys) = arguments[1..].split_last().expect("arity");
    let timeout = timeout_millis(timeout)?;
    for key in keys {
        if let Some([element]) = take(store, key, end, 1)?.as_deref() {
            encode::array_head(2, out);
            encode::bulk(key, out);
            encode::bulk(element, out);
            return Ok(());
        }
    }
    store.stall(keys, timeout);
    null_array(out);
    Ok(())
}

pub fn lmpop(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    if pop_many(store, arguments, 1, out)?.is_some() {
        null_array(out);
    }
    Ok(())
}

pub fn blmpop(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let timeout = timeout_millis(arguments[1])?;
    if let Some(keys) = pop_many(store, arguments, 2, out)? {
        store.stall(keys, timeout);
        null_array(out);
    }
    Ok(())
}

/// `numkeys key… LEFT|RIGHT [COUNT n]` from argument `at` on. The keys, if none of them had anything.
fn pop_many<'a>(
    store: &mut Store,
    arguments: Arguments<'a>,
    at: usize,
    out: &mut Vec<u8>,
) -> Outcome<Option<Arguments<'a>>> {
    let (keys, at) = counted_keys(arguments, at, Fail::of("ERR numkeys should be greater than 0"))?;
    let end = End::of(arguments.get(at).ok_or(SYNTAX)?)?;
    let wanted = pop_count(&arguments[at + 1..])?;
    for key in keys {
        if let Some(taken) = take(store, key, end, wanted)? {
            encode::array_head(2, out);
            encode::bulk(key, out);
            write_all(&taken, out);
            return Ok(None);
        }
    }
    Ok(Some(keys))
}

/// `COUNT n`, or nothing.
pub fn pop_count(options: Arguments<'_>) -> Outcome<usize> {
    match options {
        [] => Ok(1),
        [word, wanted] if is(word, "count") => match parse_integer(wanted) {
            Some(wanted @ 1..) => Ok(wanted as usize),
            _ => Err(Fail::of("ERR count should be greater than 0")),
        },
        _ => Err(SYNTAX),
    }
}
