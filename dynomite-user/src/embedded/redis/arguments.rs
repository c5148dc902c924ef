//! Arguments read: numbers, words, ranges, options.

use super::fail::{Fail, NOT_INTEGER, NOT_POSITIVE, Outcome, SYNTAX};
use crate::embedded::number::{parse_float, parse_integer};
use crate::protocol::resp::encode;

pub type Arguments<'a> = &'a [&'a [u8]];

pub fn integer(argument: &[u8]) -> Outcome<i64> {
    parse_integer(argument).ok_or(NOT_INTEGER)
}

/// A count that may not be negative.
pub fn positive(argument: &[u8]) -> Outcome<usize> {
    match parse_integer(argument) {
        Some(number @ 0..) => Ok(number as usize),
        _ => Err(NOT_POSITIVE),
    }
}

pub fn is(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

/// The elements from `start` to `stop`, both counted from the end if negative: where they begin, and how many they are.
pub fn range(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let len = len as i64;
    let from_end = |at: i64| if at < 0 { (at + len).max(0) } else { at };
    let start = from_end(start);
    let stop = if stop < 0 { stop + len } else { stop }.min(len - 1);
    if start > stop || start >= len { (0, 0) } else { (start as usize, (stop - start + 1) as usize) }
}

/// `numkeys key…` from argument `at` on: the keys, and the place behind them.
pub fn counted_keys<'a>(arguments: Arguments<'a>, at: usize, bad_count: Fail) -> Outcome<(Arguments<'a>, usize)> {
    let count = parse_integer(arguments[at]).filter(|&count| count > 0).ok_or(bad_count)?;
    let from = at + 1;
    let end = usize::try_from(count).ok().and_then(|count| count.checked_add(from)).ok_or(SYNTAX)?;
    let keys = arguments.get(from..end).ok_or(SYNTAX)?;
    Ok((keys, end))
}

/// Timeouts of blocking commands: seconds with a fraction → milliseconds, 0 for ever.
pub fn timeout_millis(argument: &[u8]) -> Outcome<u64> {
    let seconds = parse_float(argument).ok_or(Fail::of("ERR timeout is not a float or out of range"))?;
    if seconds < 0.0 {
        return Err(Fail::of("ERR timeout is negative"));
    }
    let millis = (seconds * 1000.0).ceil();
    if millis >= i64::MAX as f64 {
        return Err(Fail::of("ERR timeout is out of range"));
    }
    Ok(millis as u64)
}

pub fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(b"$-1\r\n");
}

pub fn null_array(out: &mut Vec<u8>) {
    out.extend_from_slice(b"*-1\r\n");
}

pub fn bulk_or_null(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        Some(bytes) => encode::bulk(bytes, out),
        None => null(out),
    }
}

pub fn count(number: usize, out: &mut Vec<u8>) {
    encode::integer(number as i64, out);
}

pub fn count_or_null(number: Option<usize>, out: &mut Vec<u8>) {
    match number {
        Some(number) => count(number, out),
        None => null(out),
    }
}

pub fn ok(out: &mut Vec<u8>) {
    encode::status("OK", out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_count_from_either_end() {
        let check =
            |start, stop, len, expected| assert_eq!(range(start, stop, len), expected, "{start} {stop} of {len}");
        check(0, -1, 5, (0, 5));
        check(1, 3, 5, (1, 3));
        check(-2, -1, 5, (3, 2));
        check(-100, 100, 5, (0, 5));
        check(3, 1, 5, (0, 0));
        check(5, 9, 5, (0, 0));
        check(0, -6, 5, (0, 0));
        check(0, 0, 0, (0, 0));
        check(i64::MIN, i64::MAX, 5, (0, 5));
    }
}
