//! A command line's words and numbers. Owns: the lexical rules that all of `memcache` shares.

/// The words of a request's first line, parted by any number of blanks.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    line: &'a [u8],
}

impl<'a> Words<'a> {
    pub fn of(frame: &'a [u8]) -> Words<'a> {
        Words { line: split_line(frame).map_or(frame, |(text, _)| &frame[..text]) }
    }

    /// Of a line without its end.
    pub fn of_line(line: &'a [u8]) -> Words<'a> {
        Words { line }
    }

    /// The last word, or nothing if there is none left.
    pub fn last(&self) -> Option<&'a [u8]> {
        let end = self.line.iter().rposition(|&byte| byte != b' ')? + 1;
        let start = self.line[..end].iter().rposition(|&byte| byte == b' ').map_or(0, |blank| blank + 1);
        Some(&self.line[start..end])
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.line.iter().position(|&byte| byte != b' ')?;
        let rest = &self.line[start..];
        let end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.line = rest;
        Some(word)
    }
}

/// Where a frame's first line ends: the length of what stands on it, and of the line with its end.
pub fn split_line(frame: &[u8]) -> Option<(usize, usize)> {
    let end = memchr::memchr(b'\n', frame)?;
    let text = if end > 0 && frame[end - 1] == b'\r' { end - 1 } else { end };
    Some((text, end + 1))
}

/// How many bytes there are before the first blank or control character.
pub fn word_len(bytes: &[u8]) -> usize {
    const LOW: u64 = u64::from_ne_bytes([0x21; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let mut len = 0;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
        // A byte below 0x21 borrows; the lowest one found is always a true one.
        let found = word.wrapping_sub(LOW) & !word & HIGH;
        if found != 0 {
            return len + (found.trailing_zeros() / 8) as usize;
        }
        len += 8;
    }
    len + chunks.remainder().iter().take_while(|&&byte| byte > b' ').count()
}

/// A number without sign. memcached takes a `+`; the C program takes digits only, so `rewrite` drops it.
pub fn unsigned(word: &[u8]) -> Option<u64> {
    let digits = word.strip_prefix(b"+").unwrap_or(word);
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A number that may be negative.
pub fn signed(word: &[u8]) -> Option<i64> {
    match word.strip_prefix(b"-") {
        Some(digits) if digits.first().is_some_and(u8::is_ascii_digit) => 0i64.checked_sub_unsigned(unsigned(digits)?),
        Some(_) => None,
        None => i64::try_from(unsigned(word)?).ok(),
    }
}

/// Decodes base64 into `out`; the length, or nothing if it is not base64 or does not fit.
pub fn decode_base64(text: &[u8], out: &mut [u8]) -> Option<usize> {
    if text.is_empty() || !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take(2).take_while(|&&byte| byte == b'=').count();
    let digits = &text[..text.len() - padding];
    let mut len = 0;
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for &byte in group {
            bits = bits << 6 | u32::from(base64_digit(byte)?);
        }
        bits <<= 6 * (4 - group.len());
        for &byte in &bits.to_be_bytes()[1..group.len()] {
            *out.get_mut(len)? = byte;
            len += 1;
        }
    }
    Some(len)
}

fn base64_digit(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

pub fn encode_base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place > group.len() { b'=' } else { digit });
        }
    }
    text
}

/// Appends a number in decimal.
pub fn write_number(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut left = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parted_by_blanks() {
        let check = |line: &str, words: &[&str]| {
            let found: Vec<&[u8]> = Words::of_line(line.as_bytes()).collect();
            assert_eq!(found, words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>(), "{line:?}");
            assert_eq!(Words::of_line(line.as_bytes()).last(), found.last().copied(), "{line:?}");
        };
        check("get a", &["get", "a"]);
        check("  get  a   b ", &["get", "a", "b"]);
        check("", &[]);
        check("   ", &[]);
        check("a\tb", &["a\tb"]);
        for len in 0..40 {
            for end in [" ", "\r\n", "\t", "\0", ""] {
                let bytes =
                    [b"\xff\x7f\x80~!".repeat(8)[..len].to_vec(), end.as_bytes().to_vec(), b" x\xff".to_vec()].concat();
                assert_eq!(word_len(&bytes), len, "{}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn numbers() {
        let check = |word: &str, as_unsigned: Option<u64>, as_signed: Option<i64>| {
            assert_eq!(unsigned(word.as_bytes()), as_unsigned, "{word}");
            assert_eq!(signed(word.as_bytes()), as_signed, "{word}");
        };
        check("0", Some(0), Some(0));
        check("007", Some(7), Some(7));
        check("+7", Some(7), Some(7));
        check("-7", None, Some(-7));
        check("-0", None, Some(0));
        check("", None, None);
        check("+", None, None);
        check("-", None, None);
        check("-+7", None, None);
        check("7x", None, None);
        check("18446744073709551615", Some(u64::MAX), None);
        check("18446744073709551616", None, None);
        check("-9223372036854775808", None, Some(i64::MIN));
        check("-9223372036854775809", None, None);
        for number in [0, 9, 10, u64::MAX] {
            let mut out = Vec::new();
            write_number(number, &mut out);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }

    #[test]
    fn base64() {
        let check = |text: &str, decoded: Option<&str>| {
            let mut out = [0; 8];
            let len = decode_base64(text.as_bytes(), &mut out);
            assert_eq!(len.map(|len| out[..len].to_vec()), decoded.map(|text| text.as_bytes().to_vec()), "{text}");
        };
        check("Zm9v", Some("foo"));
        check("Zm8=", Some("fo"));
        check("Zg==", Some("f"));
        check("Zh==", Some("f")); // memcached does not look at the spare bits either
        check("Zm9vZm9v", Some("foofoo"));
        for text in ["Zm9v", "Zm8=", "Zg==", "", "/+A="] {
            let mut out = [0; 8];
            let len = decode_base64(text.as_bytes(), &mut out).unwrap_or(0);
            assert_eq!(encode_base64(&out[..len]), text.as_bytes());
        }
        check("Zm9", None);
        check("Z===", None);
        check("====", None);
        check("Zm9v!", None);
        check("Zg==Zg==", None);
        check("Zm-_", None);
        check("", None);
        check("Zm9vZm9vZm9v", None); // longer than what it is to fit into
    }
}
