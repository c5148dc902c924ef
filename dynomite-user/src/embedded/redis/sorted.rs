//! Sorted sets, one at a time. Several together: `sorted_many`.

use super::arguments::{
    Arguments, bulk_or_null, count, count_or_null, counted_keys, integer, is, null, null_array, positive, range,
    timeout_millis,
};
use super::fail::{Fail, NOT_FLOAT, OUT_OF_RANGE, Outcome, SYNTAX};
use super::hash::{nothing, pick};
use super::list::pop_count;
use super::store::Store;
use super::value::{Ranked, SortedSet, Value};
use crate::embedded::number::{format_float, parse_float};
use crate::protocol::resp::encode;

const NOT_A_SCORE: Fail = Fail::of("ERR resulting score is not a number (NaN)");

pub fn write_score(score: f64, out: &mut Vec<u8>) {
    encode::bulk(format_float(score).as_bytes(), out);
}

fn score_or_null(score: Option<f64>, out: &mut Vec<u8>) {
    match score {
        Some(score) => write_score(score, out),
        None => null(out),
    }
}

pub fn write_members<'a>(members: impl Iterator<Item = &'a Ranked> + Clone, with_scores: bool, out: &mut Vec<u8>) {
    encode::array_head(members.clone().count() * if with_scores { 2 } else { 1 }, out);
    for ranked in members {
        encode::bulk(&ranked.member, out);
        if with_scores {
            write_score(ranked.score, out);
        }
    }
}

#[derive(Default)]
struct Conditions {
    new: bool,
    old: bool,
    greater: bool,
    less: bool,
    changed: bool,
    incr: bool,
}

pub fn zadd(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let mut conditions = Conditions::default();
    let mut at = 2;
    while at < arguments.len() {
        match arguments[at].to_ascii_lowercase().as_slice() {
            b"nx" => conditions.new = true,
            b"xx" => conditions.old = true,
            b"gt" => conditions.greater = true,
            b"lt" => conditions.less = true,
            b"ch" => conditions.changed = true,
            b"incr" => conditions.incr = true,
            _ => break,
        }
        at += 1;
    }
    let pairs = &arguments[at..];
    if pairs.is_empty() || pairs.len() % 2 == 1 {
        return Err(SYNTAX);
    }
    if conditions.new && conditions.old {
        return Err(Fail::of("ERR XX and NX options at the same time are not compatible"));
    }
    if conditions.greater && (conditions.new || conditions.less) || conditions.less && conditions.new {
        return Err(Fail::of("ERR GT, LT, and/or NX options at the same time are not compatible"));
    }
    if conditions.incr && pairs.len() > 2 {
        return Err(Fail::of("ERR INCR option supports a single increment-element pair"));
    }
    let scores: Vec<f64> = pairs.chunks(2).map(|pair| parse_float(pair[0]).ok_or(NOT_FLOAT)).collect::<Outcome<_>>()?;
    let (key, mut added, mut updated, mut told) = (arguments[1], 0, 0, None);
    if store.sorted(key)?.is_none() && conditions.old {
        return Ok(if conditions.incr { null(out) } else { count(0, out) });
    }
    let sorted = store.sorted_or_new(key)?;
    for (pair, &score) in pairs.chunks(2).zip(&scores) {
        let before = sorted.score(pair[1]);
        if before.is_some() && conditions.new {
            continue;
        }
        let score = match before {
            Some(before) if conditions.incr => before + score,
            _ => score,
        };
        if score.is_nan() {
            store.drop_if_empty(key);
            return Err(NOT_A_SCORE);
        }
        let takes = match before {
            None => !conditions.old,
            Some(before) => !(conditions.greater && score <= before || conditions.less && score >= before),
        };
        if takes {
            added += usize::from(before.is_none());
            updated += usize::from(before.is_some_and(|before| before != score));
            // A zero of another sign is no other score.
            if before != Some(score) {
                sorted.insert(pair[1], score);
            }
            told = Some(score);
        }
    }
    if added + updated > 0 {
        store.changed(key);
    }
    store.drop_if_empty(key);
    match (conditions.incr, told) {
        (true, Some(score)) => write_score(score, out),
        (true, None) => null(out),
        (false, _) => count(if conditions.changed { added + updated } else { added }, out),
    }
    Ok(())
}

pub fn zincrby(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let step = parse_float(arguments[2]).ok_or(NOT_FLOAT)?;
    let score = store.sorted(arguments[1])?.and_then(|sorted| sorted.score(arguments[3])).unwrap_or(0.0) + step;
    if score.is_nan() {
        return Err(NOT_A_SCORE);
    }
    store.sorted_or_new(arguments[1])?.insert(arguments[3], score);
    store.changed(arguments[1]);
    write_score(score, out);
    Ok(())
}

pub fn zrem(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let Some(sorted) = store.sorted_mut(arguments[1])? else { return Ok(count(0, out)) };
    let gone = arguments[2..].iter().filter(|member| sorted.remove(member).is_some()).count();
    count(gone, out);
    if gone > 0 {
        store.changed(arguments[1]);
        store.drop_if_empty(arguments[1]);
    }
    Ok(())
}

pub fn zscore(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let score = store.sorted(arguments[1])?.and_then(|sorted| sorted.score(arguments[2]));
    score_or_null(score, out);
    Ok(())
}

pub fn zmscore(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let sorted = store.sorted(arguments[1])?;
    encode::array_head(arguments.len() - 2, out);
    for member in &arguments[2..] {
        let score = sorted.and_then(|sorted| sorted.score(member));
        score_or_null(score, out);
    }
    Ok(())
}

pub fn zcard(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    count(store.sorted(arguments[1])?.map_or(0, SortedSet::len), out);
    Ok(())
}

pub fn zrank(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let rank = store.sorted(arguments[1])?.and_then(|sorted| sorted.rank(arguments[2]));
    count_or_null(rank, out);
    Ok(())
}

pub fn zrevrank(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let sorted = store.sorted(arguments[1])?;
    let rank = sorted.and_then(|sorted| Some(sorted.len() - 1 - sorted.rank(arguments[2])?));
    count_or_null(rank, out);
    Ok(())
}

/// Which members a range means.
#[derive(Clone, Debug)]
enum Span {
    Ranks(i64, i64),
    /// Lowest and highest score, each with or without itself.
    Scores {
        min: (f64, bool),
        max: (f64, bool),
    },
    Bytes {
        min: Edge,
        max: Edge,
    },
}

#[derive(Clone, Debug)]
enum Edge {
    First,
    Last,
    With(Vec<u8>),
    Without(Vec<u8>),
}

fn score_edge(argument: &[u8]) -> Outcome<(f64, bool)> {
    let (text, with) = match argument.strip_prefix(b"(") {
        Some(text) => (text, false),
        None => (argument, true),
    };
    parse_float(text).map(|score| (score, with)).ok_or(Fail::of("ERR min or max is not a float"))
}

fn byte_edge(argument: &[u8]) -> Outcome<Edge> {
    match argument {
        b"-" => Ok(Edge::First),
        b"+" => Ok(Edge::Last),
        [b'[', text @ ..] => Ok(Edge::With(text.to_vec())),
        [b'(', text @ ..] => Ok(Edge::Without(text.to_vec())),
        _ => Err(Fail::of("ERR min or max not valid string range item")),
    }
}

impl Span {
    fn scores(min: &[u8], max: &[u8]) -> Outcome<Span> {
        Ok(Span::Scores { min: score_edge(min)?, max: score_edge(max)? })
    }

    fn bytes(min: &[u8], max: &[u8]) -> Outcome<Span> {
        Ok(Span::Bytes { min: byte_edge(min)?, max: byte_edge(max)? })
    }

    fn ranks(start: &[u8], stop: &[u8]) -> Outcome<Span> {
        Ok(Span::Ranks(integer(start)?, integer(stop)?))
    }

    /// The members that it means, in the order asked for.
    fn select(&self, sorted: &SortedSet, reverse: bool) -> Vec<Ranked> {
        match self {
            Span::Ranks(start, stop) => {
                let (from, len) = range(*start, *stop, sorted.len());
                let members = sorted.iter().cloned();
                if reverse {
                    members.rev().skip(from).take(len).collect()
                } else {
                    members.skip(from).take(len).collect()
                }
            }
            Span::Scores { min, max } => {
                let members = sorted
                    .at_least(min.0)
                    .skip_while(|ranked| !(min.1 || ranked.score > min.0))
                    .take_while(|ranked| ranked.score < max.0 || max.1 && ranked.score == max.0)
                    .cloned();
                turned(members.collect(), reverse)
            }
            Span::Bytes { min, max } => {
                let above = |member: &[u8]| match min {
                    Edge::First => true,
                    Edge::Last => false,
                    Edge::With(edge) => member >= edge.as_slice(),
                    Edge::Without(edge) => member > edge.as_slice(),
                };
                let below = |member: &[u8]| match max {
                    Edge::First => false,
                    Edge::Last => true,
                    Edge::With(edge) => member <= edge.as_slice(),
                    Edge::Without(edge) => member < edge.as_slice(),
                };
                let members = sorted
                    .iter()
                    .skip_while(|ranked| !above(&ranked.member))
                    .take_while(|ranked| below(&ranked.member))
                    .cloned();
                turned(members.collect(), reverse)
            }
        }
    }
}

fn turned(mut members: Vec<Ranked>, reverse: bool) -> Vec<Ranked> {
    if reverse {
        members.reverse();
    }
    members
}

/// How ZRANGE's relatives differ: what their two edges are, in which order they stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Bytes,
    /// The newer commands say it with options.
    Said,
}

struct Query {
    span: Span,
    reverse: bool,
    offset: i64,
    limit: i64,
    with_scores: bool,
}

impl Query {
    /// `min max` and options from argument `at` on.
    fn of(arguments: Arguments<'_>, at: usize, by: By, reverse: bool, stores: bool) -> Outcome<Query> {
        let (mut by, mut reverse, says_itself) = (by, reverse, by == By::Said);
        let (mut offset, mut limit, mut with_scores) = (0, -1, false);
        let mut next = at + 2;
        while next < arguments.len() {
            let option = arguments[next];
            let left = arguments.len() - next - 1;
            if !stores && is(option, "withscores") {
                with_scores = true;
            } else if is(option, "limit") && left >= 2 {
                (offset, limit) = (integer(arguments[next + 1])?, integer(arguments[next + 2])?);
                next += 2;
            } else if says_itself && is(option, "byscore") {
                by = By::Score;
            } else if says_itself && is(option, "bylex") {
                by = By::Bytes;
            } else if says_itself && is(option, "rev") {
                reverse = true;
            } else {
                return Err(SYNTAX);
            }
            next += 1;
        }
        let by_rank = matches!(by, By::Rank | By::Said);
        if limit != -1 && by_rank {
            return Err(Fail::of(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Bytes {
            return Err(Fail::of("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        let (mut min, mut max) = (arguments[at], arguments[at + 1]);
        if reverse && !by_rank {
            (min, max) = (max, min);
        }
        let span = match by {
            By::Rank | By::Said => Span::ranks(min, max)?,
            By::Score => Span::scores(min, max)?,
            By::Bytes => Span::bytes(min, max)?,
        };
        Ok(Query { span, reverse, offset, limit, with_scores })
    }

    fn select(&self, sorted: &SortedSet) -> Vec<Ranked> {
        let members = self.span.select(sorted, self.reverse);
        let Ok(offset) = usize::try_from(self.offset) else { return Vec::new() };
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        members.into_iter().skip(offset).take(limit).collect()
    }
}

fn tell(store: &Store, arguments: Arguments<'_>, by: By, reverse: bool, out: &mut Vec<u8>) -> Outcome {
    let query = Query::of(arguments, 2, by, reverse, false)?;
    let members = store.sorted(arguments[1])?.map(|sorted| query.select(sorted)).unwrap_or_default();
    write_members(members.iter(), query.with_scores, out);
    Ok(())
}

pub fn zrange(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    tell(store, arguments, By::Said, false, out)
}

pub fn zrevrange(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    tell(store, arguments, By::Rank, true, out)
}

pub fn zrangebyscore(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    tell(store, arguments, By::Score, false, out)
}

pub fn zrevrangebyscore(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    tell(store, arguments, By::Score, true, out)
}

pub fn zrangebylex(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    tell(store, arguments, By::Bytes, false, out)
}

pub fn zrevrangebylex(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    tell(store, arguments, By::Bytes, true, out)
}

pub fn zrangestore(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let query = Query::of(arguments, 3, By::Said, false, true)?;
    let members = store.sorted(arguments[2])?.map(|sorted| query.select(sorted)).unwrap_or_default();
    keep(store, arguments[1], members.into_iter().map(|ranked| (ranked.member, ranked.score)).collect(), out);
    Ok(())
}

/// Puts a result where it belongs, and says how many members it has.
pub fn keep(store: &mut Store, target: &[u8], sorted: SortedSet, out: &mut Vec<u8>) {
    count(sorted.len(), out);
    if sorted.is_empty() {
        store.remove(target);
    } else {
        store.put(target, Value::Sorted(sorted), None);
    }
}

fn count_span(store: &Store, key: &[u8], span: &Span, out: &mut Vec<u8>) -> Outcome {
    count(store.sorted(key)?.map_or(0, |sorted| span.select(sorted, false).len()), out);
    Ok(())
}

pub fn zcount(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    count_span(store, arguments[1], &Span::scores(arguments[2], arguments[3])?, out)
}

pub fn zlexcount(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    count_span(store, arguments[1], &Span::bytes(arguments[2], arguments[3])?, out)
}

fn remove_span(store: &mut Store, key: &[u8], span: &Span, out: &mut Vec<u8>) -> Outcome {
    let Some(sorted) = store.sorted_mut(key)? else { return Ok(count(0, out)) };
    let gone = span.select(sorted, false);
    gone.iter().for_each(|ranked| _ = sorted.remove(&ranked.member));
    count(gone.len(), out);
    if !gone.is_empty() {
        store.changed(key);
        store.drop_if_empty(key);
    }
    Ok(())
}

pub fn zremrangebyrank(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    remove_span(store, arguments[1], &Span::ranks(arguments[2], arguments[3])?, out)
}

pub fn zremrangebyscore(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    remove_span(store, arguments[1], &Span::scores(arguments[2], arguments[3])?, out)
}

pub fn zremrangebylex(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    remove_span(store, arguments[1], &Span::bytes(arguments[2], arguments[3])?, out)
}

#[derive(Clone, Copy)]
enum Lowest {
    Min,
    Max,
}

/// Takes up to `wanted` members off one end; nothing if there is no set.
fn take(store: &mut Store, key: &[u8], end: Lowest, wanted: usize) -> Outcome<Option<Vec<Ranked>>> {
    let Some(sorted) = store.sorted_mut(key)? else { return Ok(None) };
    let mut taken = Vec::new();
    while taken.len() < wanted {
        let next = match end {
            Lowest::Min => sorted.pop_first(),
            Lowest::Max => sorted.pop_last(),
        };
        let Some(next) = next else { break };
        taken.push(next);
    }
    if !taken.is_empty() {
        store.changed(key);
        store.drop_if_empty(key);
    }
    Ok(Some(taken))
}

pub fn zpopmin(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    pop(store, arguments, Lowest::Min, out)
}

pub fn zpopmax(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    pop(store, arguments, Lowest::Max, out)
}

fn pop(store: &mut Store, arguments: Arguments<'_>, end: Lowest, out: &mut Vec<u8>) -> Outcome {
    if arguments.len() > 3 {
        return Err(SYNTAX);
    }
    let wanted = arguments.get(2).map(|wanted| positive(wanted)).transpose()?.unwrap_or(1);
    let taken = take(store, arguments[1], end, wanted)?.unwrap_or_default();
    write_members(taken.iter(), true, out);
    Ok(())
}

pub fn bzpopmin(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    wait_to_pop(store, arguments, Lowest::Min, out)
}

pub fn bzpopmax(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    wait_to_pop(store, arguments, Lowest::Max, out)
}

fn wait_to_pop(store: &mut Store, arguments: Arguments<'_>, end: Lowest, out: &mut Vec<u8>) -> Outcome {
    let (timeout, keys) = arguments[1..].split_last().expect("arity");
    let timeout = timeout_millis(timeout)?;
    for key in keys {
        if let Some([ranked]) = take(store, key, end, 1)?.as_deref() {
            encode::array_head(3, out);
            encode::bulk(key, out);
            encode::bulk(&ranked.member, out);
            write_score(ranked.score, out);
            return Ok(());
        }
    }
    store.stall(keys, timeout);
    null_array(out);
    Ok(())
}

pub fn zmpop(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    if pop_many(store, arguments, 1, out)?.is_some() {
        null_array(out);
    }
    Ok(())
}

pub fn bzmpop(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let timeout = timeout_millis(arguments[1])?;
    if let Some(keys) = pop_many(store, arguments, 2, out)? {
        store.stall(keys, timeout);
        null_array(out);
    }
    Ok(())
}

/// `numkeys key… MIN|MAX [COUNT n]` from argument `at` on. The keys, if none of them had anything.
fn pop_many<'a>(
    store: &mut Store,
    arguments: Arguments<'a>,
    at: usize,
    out: &mut Vec<u8>,
) -> Outcome<Option<Arguments<'a>>> {
    let (keys, at) = counted_keys(arguments, at, Fail::of("ERR numkeys should be greater than 0"))?;
    let end = match arguments.get(at) {
        Some(word) if is(word, "min") => Lowest::Min,
        Some(word) if is(word, "max") => Lowest::Max,
        _ => return Err(SYNTAX),
    };
    let wanted = pop_count(&arguments[at + 1..])?;
    for key in keys {
        if let Some(taken) = take(store, key, end, wanted)? {
            encode::array_head(2, out);
            encode::bulk(key, out);
            encode::array_head(taken.len(), out);
            for ranked in &taken {
                encode::array_head(2, out);
                encode::bulk(&ranked.member, out);
                write_score(ranked.score, out);
            }
            return Ok(None);
        }
    }
    Ok(Some(keys))
}

pub fn zrandmember(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    if arguments.len() == 2 {
        let place = store.random() as u32;
        let member = store.sorted(arguments[1])?.and_then(|sorted| sorted.by_member().near(place));
        bulk_or_null(member.map(|(member, _)| member), out);
        return Ok(());
    }
    let wanted = integer(arguments[2])?;
    let with_scores = match arguments.len() {
        3 => false,
        4 if is(arguments[3], "withscores") => true,
        _ => return Err(SYNTAX),
    };
    if wanted < -i64::MAX / 2 || with_scores && wanted.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(OUT_OF_RANGE);
    }
    if store.sorted(arguments[1])?.is_none() {
        nothing(Some(wanted), out);
        return Ok(());
    }
    let picked = pick(store, arguments[1], wanted, |store, key| {
        Ok(store.sorted(key)?.map(|sorted| sorted.iter().cloned().collect()).unwrap_or_default())
    })?;
    write_members(picked.iter(), with_scores, out);
    Ok(())
}

pub fn zscan(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let scan = super::keys::Scan::of(arguments, 2)?;
    let Some(sorted) = store.sorted(arguments[1])? else { return Ok(super::keys::Scan::nothing(out)) };
    scan.walk(sorted.by_member(), out, |member, score, found| {
        found.push(member.to_vec());
        found.push(format_float(*score).into_bytes());
    });
    Ok(())
}
