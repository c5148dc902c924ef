//! Sets.

use super::arguments::{Arguments, bulk_or_null, count, counted_keys, integer, is, positive};
use super::fail::{Fail, OUT_OF_RANGE, Outcome, SYNTAX, WRONG_TYPE};
use super::hash::pick;
use super::store::Store;
use super::value::Value;
use crate::embedded::dict::Dict;
use crate::embedded::number::parse_integer;
use crate::protocol::resp::encode;

type Set = Dict<()>;

pub fn sadd(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let set = store.set_or_new(arguments[1])?;
    let new = arguments[2..].iter().filter(|member| set.insert(member, ()).is_none()).count();
    count(new, out);
    if new > 0 {
        store.changed(arguments[1]);
    }
    Ok(())
}

pub fn srem(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let Some(set) = store.set_mut(arguments[1])? else { return Ok(count(0, out)) };
    let gone = arguments[2..].iter().filter(|member| set.remove(member).is_some()).count();
    count(gone, out);
    if gone > 0 {
        store.changed(arguments[1]);
        store.drop_if_empty(arguments[1]);
    }
    Ok(())
}

pub fn sismember(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let here = store.set(arguments[1])?.is_some_and(|set| set.contains(arguments[2]));
    count(usize::from(here), out);
    Ok(())
}

pub fn smismember(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let set = store.set(arguments[1])?;
    encode::array_head(arguments.len() - 2, out);
    for member in &arguments[2..] {
        count(usize::from(set.is_some_and(|set| set.contains(member))), out);
    }
    Ok(())
}

pub fn scard(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    count(store.set(arguments[1])?.map_or(0, Dict::len), out);
    Ok(())
}

pub fn smembers(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let set = store.set(arguments[1])?;
    encode::array_head(set.map_or(0, Dict::len), out);
    set.into_iter().flat_map(Dict::keys).for_each(|member| encode::bulk(member, out));
    Ok(())
}

pub fn spop(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    if arguments.len() > 3 {
        return Err(SYNTAX);
    }
    let wanted = arguments.get(2).map(|wanted| positive(wanted)).transpose()?;
    let picked = pick_members(store, arguments[1], wanted.unwrap_or(1) as i64)?;
    if let Some(set) = store.set_mut(arguments[1])? {
        picked.iter().for_each(|member| _ = set.remove(member));
        if !picked.is_empty() {
            store.changed(arguments[1]);
            store.drop_if_empty(arguments[1]);
        }
    }
    write_picked(&picked, wanted.is_some(), out);
    Ok(())
}

pub fn srandmember(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    if arguments.len() > 3 {
        return Err(SYNTAX);
    }
    let wanted = arguments.get(2).map(|wanted| integer(wanted)).transpose()?;
    if wanted.is_some_and(|wanted| wanted < -i64::MAX / 2) {
        return Err(OUT_OF_RANGE);
    }
    let picked = pick_members(store, arguments[1], wanted.unwrap_or(1))?;
    write_picked(&picked, wanted.is_some(), out);
    Ok(())
}

fn pick_members(store: &mut Store, key: &[u8], wanted: i64) -> Outcome<Vec<Vec<u8>>> {
    if wanted == 1 {
        let place = store.random() as u32;
        let near = store.set(key)?.and_then(|set| set.near(place));
        return Ok(near.map(|(member, ())| member.to_vec()).into_iter().collect());
    }
    pick(store, key, wanted, |store, key| {
        Ok(store.set(key)?.map(|set| set.keys().map(<[u8]>::to_vec).collect()).unwrap_or_default())
    })
}

fn write_picked(picked: &[Vec<u8>], as_array: bool, out: &mut Vec<u8>) {
    if as_array {
        encode::array_head(picked.len(), out);
        picked.iter().for_each(|member| encode::bulk(member, out));
    } else {
        bulk_or_null(picked.first().map(Vec::as_slice), out);
    }
}

pub fn smove(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (from, to, member) = (arguments[1], arguments[2], arguments[3]);
    if store.set(from)?.is_none() {
        return Ok(count(0, out));
    }
    store.set(to)?;
    if from == to {
        let here = store.set(from)?.is_some_and(|set| set.contains(member));
        return Ok(count(usize::from(here), out));
    }
    let moved = store.set_mut(from)?.is_some_and(|set| set.remove(member).is_some());
    if moved {
        store.set_or_new(to)?.insert(member, ());
        store.changed(from);
        store.changed(to);
        store.drop_if_empty(from);
    }
    count(usize::from(moved), out);
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Together {
    Inter,
    Union,
    Diff,
}

/// What the sets are together. A missing set is an empty one.
fn together(store: &Store, keys: Arguments<'_>, how: Together) -> Outcome<Set> {
    // Types first: a wrong one is told, even where the result is known to be empty.
    let sets: Vec<Option<&Set>> = keys.iter().map(|key| store.set(key)).collect::<Outcome<_>>()?;
    let members = |set: &Option<&Set>| set.iter().flat_map(|set| set.keys().map(<[u8]>::to_vec)).collect::<Vec<_>>();
    let mut result = Set::default();
    match how {
        Together::Union => sets.iter().flat_map(members).for_each(|member| _ = result.insert(&member, ())),
        Together::Inter | Together::Diff => {
            let others = &sets[1..];
            for member in members(&sets[0]) {
                let is_in = |set: &Option<&Set>| set.is_some_and(|set| set.contains(&member));
                let stays = match how {
                    Together::Inter => others.iter().all(is_in),
                    _ => !others.iter().any(is_in),
                };
                if stays {
                    result.insert(&member, ());
                }
            }
        }
    }
    Ok(result)
}

fn tell(store: &Store, arguments: Arguments<'_>, how: Together, out: &mut Vec<u8>) -> Outcome {
    let set = together(store, &arguments[1..], how)?;
    encode::array_head(set.len(), out);
    set.keys().for_each(|member| encode::bulk(member, out));
    Ok(())
}

fn keep(store: &mut Store, arguments: Arguments<'_>, how: Together, out: &mut Vec<u8>) -> Outcome {
    let set = together(store, &arguments[2..], how)?;
    count(set.len(), out);
    if set.is_empty() {
        store.remove(arguments[1]);
    } else {
        store.put(arguments[1], Value::Set(set), None);
    }
    Ok(())
}

pub fn sinter(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    tell(store, arguments, Together::Inter, out)
}

pub fn sunion(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    tell(store, arguments, Together::Union, out)
}

pub fn sdiff(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    tell(store, arguments, Together::Diff, out)
}

pub fn sinterstore(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    keep(store, arguments, Together::Inter, out)
}

pub fn sunionstore(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    keep(store, arguments, Together::Union, out)
}

pub fn sdiffstore(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    keep(store, arguments, Together::Diff, out)
}

pub fn sintercard(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (keys, max) = card_options(arguments, Fail::of("ERR numkeys should be greater than 0"))?;
    let len = together(store, keys, Together::Inter)?.len();
    count(len.min(max), out);
    Ok(())
}

/// `numkeys key… [LIMIT n]`: the keys, and the largest answer.
pub fn card_options(arguments: Arguments<'_>, no_keys: Fail) -> Outcome<(Arguments<'_>, usize)> {
    let count = parse_integer(arguments[1]).filter(|&count| count > 0).ok_or(no_keys)?;
    if count > arguments.len() as i64 - 2 {
        return Err(Fail::of("ERR Number of keys can't be greater than number of args"));
    }
    let (keys, at) = counted_keys(arguments, 1, SYNTAX)?;
    let max = match &arguments[at..] {
        [] => 0,
        [word, max] if is(word, "limit") => {
            parse_integer(max).filter(|&max| max >= 0).ok_or(Fail::of("ERR LIMIT can't be negative"))?
        }
        _ => return Err(SYNTAX),
    };
    Ok((keys, if max == 0 { usize::MAX } else { max as usize }))
}

pub fn sscan(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let scan = super::keys::Scan::of(arguments, 2)?;
    let Some(set) = store.set(arguments[1])? else { return Ok(super::keys::Scan::nothing(out)) };
    scan.walk(set, out, |member, (), found| found.push(member.to_vec()));
    Ok(())
}

/// Scores of a set or a sorted set: a set's members all have 1.
pub fn scores(value: Option<&Value>) -> Outcome<Vec<(Vec<u8>, f64)>> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::Set(set)) => Ok(set.keys().map(|member| (member.to_vec(), 1.0)).collect()),
        Some(Value::Sorted(sorted)) => Ok(sorted.iter().map(|ranked| (ranked.member.clone(), ranked.score)).collect()),
        Some(_) => Err(WRONG_TYPE),
    }
}
