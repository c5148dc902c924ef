//! The number in a head such as `$36\r\n`.
//! Owns: the reading of decimal digits, which is most of what decoding costs.

/// What stands behind a type byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The number, and where the bytes behind its line end begin.
    Number { value: i64, next: usize },
    /// The line end is not here yet.
    Incomplete,
    /// Not a decimal number in its one canonical spelling (`03`, `+3` and `-0` are not), or no CR LF behind it.
    Invalid,
}

/// Reads the number that starts at `at`.
#[inline(always)]
pub fn number(bytes: &[u8], at: usize) -> Head {
    const CRLF: u16 = u16::from_le_bytes(*b"\r\n");
    // Nearly every head has one to three digits, and nearly always eight bytes are there: one load, few comparisons.
    if let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*eight);
        let digit = |place: u32| u64::from(((word >> (8 * place)) as u8).wrapping_sub(b'0'));
        let ends = |place: u32| (word >> (8 * place)) as u16 == CRLF;
        let (first, second, third) = (digit(0), digit(1), digit(2));
        if ends(1) && first <= 9 {
            return Head::Number { value: first as i64, next: at + 3 };
        }
        let leading = first.wrapping_sub(1) <= 8;
        if ends(2) && leading && second <= 9 {
            return Head::Number { value: (first * 10 + second) as i64, next: at + 4 };
        }
        if ends(3) && leading && second <= 9 && third <= 9 {
            return Head::Number { value: (first * 100 + second * 10 + third) as i64, next: at + 5 };
        }
    }
    any_number(bytes, at)
}

/// Digits and sign of the longest `i64`.
const DIGITS_MAX: usize = 20;

#[inline(never)]
fn any_number(bytes: &[u8], at: usize) -> Head {
    let rest = bytes.get(at..).unwrap_or_default();
    let line = &rest[..rest.len().min(DIGITS_MAX + 2)];
    let Some(len) = line.iter().position(|&byte| byte == b'\r') else {
        let is_number = |&byte: &u8| byte.is_ascii_digit() || byte == b'-';
        return if line.len() <= DIGITS_MAX && line.iter().all(is_number) { Head::Incomplete } else { Head::Invalid };
    };
    let Some(value) = canonical(&line[..len]) else { return Head::Invalid };
    match rest.get(len + 1) {
        Some(b'\n') => Head::Number { value, next: at + len + 2 },
        Some(_) => Head::Invalid,
        None => Head::Incomplete,
    }
}

/// All of `text` as a number in its one spelling, which is how Redis reads the numbers among arguments too.
pub fn canonical(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    digits.iter().try_fold(0i64, |number, digit| match digit {
        // Negative numbers are built downwards: the smallest one has no positive counterpart.
        b'0'..=b'9' if negative => number.checked_mul(10)?.checked_sub(i64::from(digit - b'0')),
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Head) {
        assert_eq!(number(text.as_bytes(), 0), expected, "{text:?} at the end of the inbox");
        if expected != Head::Incomplete {
            assert_eq!(number(format!("{text}........").as_bytes(), 0), expected, "{text:?} with more behind it");
        }
    }

    #[test]
    fn one_spelling_each() {
        for value in [0, 1, 9, 10, 36, 99, 100, 999, 1000, 1 << 20, 536_870_912, i64::MAX, -1, -5, i64::MIN] {
            let text = format!("{value}\r\n");
            check(&text, Head::Number { value, next: text.len() });
            for cut in 1..text.len() {
                check(&text[..cut], Head::Incomplete);
            }
        }
        check("", Head::Incomplete);
        for odd in
            ["00\r\n", "03\r\n", "+3\r\n", "-0\r\n", "-\r\n", "\r\n", " 1\r\n", "1 \r\n", "1\n..", "1\rX", "12a\r\n"]
        {
            check(odd, Head::Invalid);
        }
        check("9223372036854775808\r\n", Head::Invalid);
        check("111111111111111111111111", Head::Invalid);
        check("x", Head::Invalid);
    }
}
