//! SORT.

use super::arguments::{Arguments, bulk_or_null, count, integer, is};
use super::fail::{Fail, Outcome, SYNTAX, WRONG_TYPE};
use super::store::Store;
use super::value::Value;
use crate::embedded::number::parse_float;
use crate::protocol::resp::encode;

struct Query<'a> {
    by: Option<&'a [u8]>,
    get: Vec<&'a [u8]>,
    offset: i64,
    limit: i64,
    descending: bool,
    as_text: bool,
    target: Option<&'a [u8]>,
}

pub fn sort(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    run(store, arguments, true, out)
}

pub fn sort_ro(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    run(store, arguments, false, out)
}

fn parse<'a>(arguments: Arguments<'a>, may_store: bool) -> Outcome<Query<'a>> {
    let mut query =
        Query { by: None, get: Vec::new(), offset: 0, limit: -1, descending: false, as_text: false, target: None };
    let mut at = 2;
    while at < arguments.len() {
        let option = arguments[at];
        let left = arguments.len() - at - 1;
        if is(option, "asc") {
            query.descending = false;
        } else if is(option, "desc") {
            query.descending = true;
        } else if is(option, "alpha") {
            query.as_text = true;
        } else if is(option, "limit") && left >= 2 {
            (query.offset, query.limit) = (integer(arguments[at + 1])?, integer(arguments[at + 2])?);
            at += 2;
        } else if may_store && is(option, "store") && left >= 1 {
            query.target = Some(arguments[at + 1]);
            at += 1;
        } else if is(option, "by") && left >= 1 {
            query.by = Some(arguments[at + 1]);
            at += 1;
        } else if is(option, "get") && left >= 1 {
            query.get.push(arguments[at + 1]);
            at += 1;
        } else {
            return Err(SYNTAX);
        }
        at += 1;
    }
    Ok(query)
}

fn run(store: &mut Store, arguments: Arguments<'_>, may_store: bool, out: &mut Vec<u8>) -> Outcome {
    let query = parse(arguments, may_store)?;
    let elements: Vec<Vec<u8>> = match store.value(arguments[1]) {
        None => Vec::new(),
        Some(Value::List(list)) => list.iter().cloned().collect(),
        Some(Value::Set(set)) => set.keys().map(<[u8]>::to_vec).collect(),
        Some(Value::Sorted(sorted)) => sorted.iter().map(|ranked| ranked.member.clone()).collect(),
        Some(_) => return Err(WRONG_TYPE),
    };
    let is_sorted_set = matches!(store.value(arguments[1]), Some(Value::Sorted(_)));
    let elements = order(store, elements, &query, is_sorted_set)?;
    let offset = usize::try_from(query.offset).unwrap_or(0);
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let elements = elements.into_iter().skip(offset).take(limit);
    let told: Vec<Option<Vec<u8>>> = if query.get.is_empty() {
        elements.map(Some).collect()
    } else {
        elements
            .flat_map(|element| query.get.iter().map(|get| look_up(store, get, &element)).collect::<Vec<_>>())
            .collect()
    };
    let Some(target) = query.target else {
        encode::array_head(told.len(), out);
        told.iter().for_each(|element| bulk_or_null(element.as_deref(), out));
        return Ok(());
    };
    count(told.len(), out);
    if told.is_empty() {
        store.remove(target);
    } else {
        store.put(target, Value::List(told.into_iter().map(Option::unwrap_or_default).collect()), None);
    }
    Ok(())
}

fn order(store: &Store, elements: Vec<Vec<u8>>, query: &Query<'_>, is_sorted_set: bool) -> Outcome<Vec<Vec<u8>>> {
    // A pattern without a star is the same for all: nothing is sorted, but a sorted set can be turned.
    if query.by.is_some_and(|by| !by.contains(&b'*')) {
        let mut elements = elements;
        if is_sorted_set && query.descending {
            elements.reverse();
        }
        return Ok(elements);
    }
    let weight = |element: &[u8]| match query.by {
        Some(by) => look_up(store, by, element),
        None => Some(element.to_vec()),
    };
    let mut weighed: Vec<(Option<Vec<u8>>, f64, Vec<u8>)> = Vec::new();
    for element in elements {
        let weight = weight(&element);
        let number = match &weight {
            Some(weight) if !query.as_text && !weight.is_empty() => {
                parse_float(weight).ok_or(Fail::of("ERR One or more scores can't be converted into double"))?
            }

            _ => 0.0,
        };
        weighed.push((weight, number, element));
    }
    weighed.sort_by(|left, right| {
        let weights = match query.as_text {
            true => left.0.cmp(&right.0),
            false => left.1.partial_cmp(&right.1).unwrap_or(std::cmp::Ordering::Equal),
        };
        // Equal weights: by the elements themselves, so that the order is always the same. Texts without BY are equal then.
        let order = weights.then_with(|| left.2.cmp(&right.2));
        if query.descending { order.reverse() } else { order }
    });
    Ok(weighed.into_iter().map(|(_, _, element)| element).collect())
}

/// What a pattern means for an element: `weight_*` is a key, `object_*->field` a field of one, `#` the element.
fn look_up(store: &Store, pattern: &[u8], element: &[u8]) -> Option<Vec<u8>> {
    if pattern == b"#" {
        return Some(element.to_vec());
    }
    let star = pattern.iter().position(|&byte| byte == b'*')?;
    let (head, tail) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = tail.windows(2).position(|pair| pair == b"->").filter(|at| at + 2 < tail.len());
    let (tail, field) = match arrow {
        Some(at) => (&tail[..at], Some(&tail[at + 2..])),
        None => (tail, None),
    };
    let key = [head, element, tail].concat();
    match (store.value(&key)?, field) {
        (Value::Text(text), None) => Some(text.clone()),
        (Value::Hash(hash), Some(field)) => hash.get(field).cloned(),
        _ => None,
    }
}
