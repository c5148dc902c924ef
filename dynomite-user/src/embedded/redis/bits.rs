//! Strings as bits; the first bit is the highest of the first byte.

use super::arguments::{Arguments, count, integer, is, null};
use super::fail::{Fail, Outcome, SYNTAX};
use super::store::Store;
use super::text::TEXT_BYTES_MAX;
use super::value::Value;
use crate::embedded::number::parse_integer;
use crate::protocol::resp::encode;

const BAD_OFFSET: Fail = Fail::of("ERR bit offset is not an integer or out of range");
const BAD_BIT: Fail = Fail::of("ERR bit is not an integer or out of range");

fn offset(argument: &[u8]) -> Outcome<usize> {
    let offset = parse_integer(argument).and_then(|offset| usize::try_from(offset).ok());
    offset.filter(|offset| offset / 8 < TEXT_BYTES_MAX).ok_or(BAD_OFFSET)
}

fn bit(text: &[u8], at: usize) -> bool {
    text.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1)
}

fn put_bit(text: &mut [u8], at: usize, on: bool) {
    let mask = 1 << (7 - at % 8);
    if on {
        text[at / 8] |= mask;
    } else {
        text[at / 8] &= !mask;
    }
}

pub fn setbit(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let at = offset(arguments[2])?;
    let on = match arguments[3] {
        b"0" => false,
        b"1" => true,
        _ => return Err(BAD_BIT),
    };
    let text = store.text_or_new(arguments[1])?;
    if text.len() <= at / 8 {
        text.resize(at / 8 + 1, 0);
    }
    count(usize::from(bit(text, at)), out);
    put_bit(text, at, on);
    store.changed(arguments[1]);
    Ok(())
}

pub fn getbit(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let at = offset(arguments[2])?;
    let on = store.text(arguments[1])?.is_some_and(|text| bit(text, at));
    count(usize::from(on), out);
    Ok(())
}

/// `start end [BYTE|BIT]` from argument `at` on: the first bit, and the one behind the last.
fn bit_range(arguments: Arguments<'_>, at: usize, text: &[u8]) -> Outcome<(usize, usize)> {
    let unit = match arguments.get(at + 2) {
        None => 8,
        Some(unit) if is(unit, "byte") => 8,
        Some(unit) if is(unit, "bit") => 1,
        Some(_) => return Err(SYNTAX),
    };
    let len = (text.len() * 8 / unit) as i64;
    let start = integer(arguments[at])?;
    let stop = arguments.get(at + 1).map_or(Ok(len - 1), |stop| integer(stop))?;
    let from_end = |at: i64| if at < 0 { (at + len).max(0) } else { at };
    let (start, stop) = (from_end(start), from_end(stop).min(len - 1));
    Ok(if start > stop { (0, 0) } else { (start as usize * unit, (stop as usize + 1) * unit) })
}

pub fn bitcount(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let Some(text) = store.text(arguments[1])? else { return Ok(count(0, out)) };
    let (from, to) = match arguments.len() {
        2 => (0, text.len() * 8),
        // Two ends counted from the end in the wrong order are nothing, though both would clamp to the first byte.
        4 | 5 => match bit_range(arguments, 2, text)? {
            _ if is_backward(arguments)? => (0, 0),
            range => range,
        },
        _ => return Err(SYNTAX),
    };
    count((from..to).filter(|&at| bit(text, at)).count(), out);
    Ok(())
}

fn is_backward(arguments: Arguments<'_>) -> Outcome<bool> {
    let (start, stop) = (integer(arguments[2])?, integer(arguments[3])?);
    Ok(start < 0 && stop < 0 && start > stop)
}

pub fn bitpos(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let wanted = match integer(arguments[2])? {
        0 => false,
        1 => true,
        _ => return Err(Fail::of("ERR The bit argument must be 1 or 0.")),
    };
    if arguments.len() > 6 {
        return Err(SYNTAX);
    }
    let Some(text) = store.text(arguments[1])? else {
        // A missing string is endless zeros.
        if arguments.len() > 3 {
            bit_range(arguments, 3, b"")?;
        }
        encode::integer(if wanted { -1 } else { 0 }, out);
        return Ok(());
    };
    let (from, to) = if arguments.len() > 3 { bit_range(arguments, 3, text)? } else { (0, text.len() * 8) };
    let found = (from..to).find(|&at| bit(text, at) == wanted);
    let place = match found {
        Some(at) => at as i64,
        // Behind the end stand zeros, unless an end was given.
        None if !wanted && arguments.len() < 5 && from < to => to as i64,
        None => -1,
    };
    encode::integer(place, out);
    Ok(())
}

pub fn bitop(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let (operation, target, sources) = (arguments[1], arguments[2], &arguments[3..]);
    let operation: fn(u8, u8) -> u8 = match operation.to_ascii_lowercase().as_slice() {
        b"and" => |a, b| a & b,
        b"or" => |a, b| a | b,
        b"xor" => |a, b| a ^ b,
        b"not" if sources.len() == 1 => |a, _| !a,
        b"not" => return Err(Fail::of("ERR BITOP NOT must be called with a single source key.")),
        _ => return Err(SYNTAX),
    };
    let mut texts = Vec::new();
    for key in sources {
        texts.push(store.text(key)?.map_or(&b""[..], Vec::as_slice));
    }
    let len = texts.iter().map(|text| text.len()).max().unwrap_or(0);
    let byte = |text: &[u8], at: usize| text.get(at).copied().unwrap_or(0);
    let result: Vec<u8> = (0..len)
        .map(|at| match texts.as_slice() {
            [one] => operation(byte(one, at), byte(one, at)),
            [first, others @ ..] => others.iter().fold(byte(first, at), |left, text| operation(left, byte(text, at))),
            [] => 0,
        })
        .collect();
    // One source and XOR: the source itself, not nothing.
    let result = if sources.len() == 1 && is(arguments[1], "xor") { texts[0].to_vec() } else { result };
    count(len, out);
    if len == 0 {
        store.remove(target);
    } else {
        store.put(target, Value::Text(result), None);
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Field {
    signed: bool,
    bits: u32,
}

#[derive(Clone, Copy)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy)]
enum Operation {
    Get,
    Set(i64),
    Add(i64, Overflow),
}

impl Field {
    fn parse(argument: &[u8]) -> Outcome<Field> {
        const BAD: Fail = Fail::of(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        );
        let (signed, max) = match argument.first() {
            Some(b'i') => (true, 64),
            Some(b'u') => (false, 63),
            _ => return Err(BAD),
        };
        let bits = parse_integer(&argument[1..]).filter(|bits| (1..=max).contains(bits)).ok_or(BAD)?;
        Ok(Field { signed, bits: bits as u32 })
    }

    /// `#3` is the third field of this width.
    fn offset(self, argument: &[u8]) -> Outcome<usize> {
        let (number, unit) = match argument.strip_prefix(b"#") {
            Some(number) => (number, self.bits as usize),
            None => (argument, 1),
        };
        let at = parse_integer(number).and_then(|at| usize::try_from(at).ok()).and_then(|at| at.checked_mul(unit));
        at.filter(|at| at.saturating_add(self.bits as usize) >> 3 < TEXT_BYTES_MAX).ok_or(BAD_OFFSET)
    }

    fn read(self, text: &[u8], at: usize) -> i64 {
        let bits = (at..at + self.bits as usize).fold(0u64, |bits, at| bits << 1 | u64::from(bit(text, at)));
        self.value_of(bits)
    }

    /// The number that these low bits are.
    fn value_of(self, bits: u64) -> i64 {
        let unused = 64 - self.bits;
        if self.signed { ((bits << unused) as i64) >> unused } else { ((bits << unused) >> unused) as i64 }
    }

    fn write(self, text: &mut [u8], at: usize, value: i64) {
        for place in 0..self.bits {
            put_bit(text, at + place as usize, value >> (self.bits - 1 - place) & 1 == 1);
        }
    }

    fn bounds(self) -> (i128, i128) {
        match self.signed {
            true => (-(1i128 << (self.bits - 1)), (1i128 << (self.bits - 1)) - 1),
            false => (0, (1i128 << self.bits) - 1),
        }
    }

    /// The number as this field can hold it, or nothing.
    fn fit(self, value: i128, overflow: Overflow) -> Option<i64> {
        let (min, max) = self.bounds();
        if (min..=max).contains(&value) {
            return Some(value as i64);
        }
        match overflow {
            Overflow::Wrap => Some(self.value_of(value as u64)),
            Overflow::Saturate => Some(value.clamp(min, max) as i64),
            Overflow::Fail => None,
        }
    }
}

pub fn bitfield(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    fields(store, arguments, false, out)
}

pub fn bitfield_ro(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    fields(store, arguments, true, out)
}

fn fields(store: &mut Store, arguments: Arguments<'_>, read_only: bool, out: &mut Vec<u8>) -> Outcome {
    let mut operations = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut at = 2;
    while at < arguments.len() {
        let name = arguments[at];
        let left = arguments.len() - at - 1;
        if is(name, "overflow") && left >= 1 {
            overflow = match arguments[at + 1].to_ascii_lowercase().as_slice() {
                b"wrap" => Overflow::Wrap,
                b"sat" => Overflow::Saturate,
                b"fail" => Overflow::Fail,
                _ => return Err(Fail::of("ERR Invalid OVERFLOW type specified")),
            };
            at += 2;
            continue;
        }
        let words = match name.to_ascii_lowercase().as_slice() {
            b"get" if left >= 2 => 3,
            b"set" | b"incrby" if left >= 3 => 4,
            _ => return Err(SYNTAX),
        };
        let field = Field::parse(arguments[at + 1])?;
        let offset = field.offset(arguments[at + 2])?;
        let operation = match name.to_ascii_lowercase().as_slice() {
            b"get" => Operation::Get,
            b"set" => Operation::Set(integer(arguments[at + 3])?),
            _ => Operation::Add(integer(arguments[at + 3])?, overflow),
        };
        // SET overflows as was said last, too.
        operations.push((field, offset, operation, overflow));
        at += words;
    }
    let writes = operations.iter().any(|(_, _, operation, _)| !matches!(operation, Operation::Get));
    if writes && read_only {
        return Err(Fail::of("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    let mut text = store.text(arguments[1])?.cloned().unwrap_or_default();
    if writes {
        let end = operations
            .iter()
            .filter(|(_, _, operation, _)| !matches!(operation, Operation::Get))
            .map(|(field, offset, ..)| (offset + field.bits as usize).div_ceil(8))
            .max();
        text.resize(text.len().max(end.unwrap_or(0)), 0);
    }
    encode::array_head(operations.len(), out);
    for (field, offset, operation, overflow) in operations {
        let before = field.read(&text, offset);
        let (told, value) = match operation {
            Operation::Get => (Some(before), None),
            Operation::Set(value) => {
                // A negative number set into an unsigned field is a large one.
                let value = if field.signed { i128::from(value) } else { i128::from(value as u64) };
                let value = field.fit(value, overflow);
                (value.map(|_| before), value)
            }
            Operation::Add(step, overflow) => {
                let value = field.fit(i128::from(before) + i128::from(step), overflow);
                (value, value)
            }
        };
        match told {
            Some(told) => encode::integer(told, out),
            None => null(out),
        }
        if let Some(value) = value {
            field.write(&mut text, offset, value);
        }
    }
    if writes {
        store.put_text_in_place(arguments[1], text);
    }
    Ok(())
}
