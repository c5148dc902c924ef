//! Sorted sets together: union, intersection and difference, told or kept.

use super::arguments::{Arguments, count, counted_keys, is};
use super::fail::{Fail, Outcome, SYNTAX};
use super::set::{card_options, scores};
use super::sorted::{keep, write_members};
use super::store::Store;
use super::value::SortedSet;
use crate::embedded::dict::Dict;
use crate::embedded::number::parse_float;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Together {
    Union,
    Inter,
    Diff,
}

#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn join(self, left: f64, right: f64) -> f64 {
        match self {
            // Infinities of different sign cancel each other.
            Aggregate::Sum if (left + right).is_nan() => 0.0,
            Aggregate::Sum => left + right,
            Aggregate::Min => left.min(right),
            Aggregate::Max => left.max(right),
        }
    }
}

/// `numkeys key… [WEIGHTS …] [AGGREGATE …] [WITHSCORES]` from argument `at` on: the result, and whether scores are asked for.
fn together(
    store: &Store,
    arguments: Arguments<'_>,
    at: usize,
    how: Together,
    name: &str,
    stores: bool,
) -> Outcome<(SortedSet, bool)> {
    let no_keys = Fail::said(format!("ERR at least 1 input key is needed for '{name}' command"));
    if crate::embedded::number::parse_integer(arguments[at]).is_none() {
        return Err(super::fail::NOT_INTEGER);
    }
    let (keys, mut at) = counted_keys(arguments, at, no_keys)?;
    let inputs: Vec<Vec<(Vec<u8>, f64)>> = keys.iter().map(|key| scores(store.value(key))).collect::<Outcome<_>>()?;
    let (mut weights, mut aggregate, mut with_scores) = (vec![1.0; keys.len()], Aggregate::Sum, false);
    while at < arguments.len() {
        let left = arguments.len() - at - 1;
        if how != Together::Diff && is(arguments[at], "weights") && left >= keys.len() {
            for (weight, argument) in weights.iter_mut().zip(&arguments[at + 1..]) {
                *weight = parse_float(argument).ok_or(Fail::of("ERR weight value is not a float"))?;
            }
            at += keys.len();
        } else if how != Together::Diff && is(arguments[at], "aggregate") && left >= 1 {
            aggregate = match arguments[at + 1].to_ascii_lowercase().as_slice() {
                b"sum" => Aggregate::Sum,
                b"min" => Aggregate::Min,
                b"max" => Aggregate::Max,
                _ => return Err(SYNTAX),
            };
            at += 1;
        } else if !stores && is(arguments[at], "withscores") {
            with_scores = true;
        } else {
            return Err(SYNTAX);
        }
        at += 1;
    }
    let weigh = |score: f64, weight: f64| {
        let weighed = score * weight;
        if weighed.is_nan() { 0.0 } else { weighed }
    };
    // A member's score so far, and in how many inputs it was.
    let mut joined: Dict<(f64, usize)> = Dict::default();
    for (place, (input, &weight)) in inputs.iter().zip(&weights).enumerate() {
        for (member, score) in input {
            let score = weigh(*score, weight);
            match joined.get_mut(member) {
                Some((before, seen)) => {
                    *before = aggregate.join(*before, score);
                    *seen += 1;
                }
                None if how == Together::Union || place == 0 => _ = joined.insert(member, (score, 1)),
                None => {}
            }
        }
    }
    let stays = |seen: usize| match how {
        Together::Union => true,
        Together::Inter => seen == inputs.len(),
        Together::Diff => seen == 1,
    };
    let first: &[(Vec<u8>, f64)] = inputs.first().map_or(&[], Vec::as_slice);
    let result = match how {
        // The first one's scores, as they are.
        Together::Diff => {
            let left = |member: &[u8]| joined.get(member).is_some_and(|(_, seen)| stays(*seen));
            first.iter().filter(|(member, _)| left(member)).cloned().collect()
        }
        _ => joined.iter().filter(|(_, (_, seen))| stays(*seen)).map(|(m, (score, _))| (m.to_vec(), *score)).collect(),
    };
    Ok((result, with_scores))
}

fn tell(store: &Store, arguments: Arguments<'_>, how: Together, name: &str, out: &mut Vec<u8>) -> Outcome {
    let (sorted, with_scores) = together(store, arguments, 1, how, name, false)?;
    write_members(sorted.iter(), with_scores, out);
    Ok(())
}

fn put(store: &mut Store, arguments: Arguments<'_>, how: Together, name: &str, out: &mut Vec<u8>) -> Outcome {
    let (sorted, _) = together(store, arguments, 2, how, name, true)?;
    keep(store, arguments[1], sorted, out);
    Ok(())
}

pub fn zunion(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    tell(store, arguments, Together::Union, "zunion", out)
}

pub fn zinter(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    tell(store, arguments, Together::Inter, "zinter", out)
}

pub fn zdiff(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    tell(store, arguments, Together::Diff, "zdiff", out)
}

pub fn zunionstore(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    put(store, arguments, Together::Union, "zunionstore", out)
}

pub fn zinterstore(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    put(store, arguments, Together::Inter, "zinterstore", out)
}

pub fn zdiffstore(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    put(store, arguments, Together::Diff, "zdiffstore", out)
}

pub fn zintercard(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (keys, max) = card_options(arguments, Fail::of("ERR at least 1 input key is needed for 'zintercard' command"))?;
    let inputs: Vec<SortedSet> =
        keys.iter().map(|key| Ok(scores(store.value(key))?.into_iter().collect())).collect::<Outcome<_>>()?;
    let (first, others) = inputs.split_first().expect("at least one key");
    let everywhere = |member: &[u8]| others.iter().all(|other| other.score(member).is_some());
    count(first.iter().filter(|ranked| everywhere(&ranked.member)).take(max).count(), out);
    Ok(())
}
