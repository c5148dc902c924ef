//! The text of a token, read as every node of a cluster reads it.
//! Owns: the rules. Knows nothing of: which node a token belongs to.

use dynomite_common::token::Token;

/// More digits than any token has. A longer text is somebody's mistake.
const DIGITS_MAX: usize = 1000;

/// A token as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenText {
    pub token: Token,
    /// Zero to 4294967295 in digits: what people mean. Everything else has a meaning too, but a surprising one, and the
    /// configuration's check says so.
    pub plain: bool,
}

/// There is nothing to read, or far too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoToken;

/// Reads one token.
///
/// The last digits are read in groups of ten, a group with anything but digits in it counts as 0, and the groups are
/// joined with a factor of 9^9 modulo 2^32. That matters beyond ten digits only, but there all nodes must agree.
/// A token with a minus sign lies above all others, whatever its digits: here it is the largest token there is.
pub fn parse(text: &str) -> Result<TokenText, NoToken> {
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return Err(NoToken);
    }
    if text.starts_with('-') {
        return Ok(TokenText { token: Token(u32::MAX), plain: false });
    }
    const GROUP: usize = 10;
    let (first, rest) = digits.split_at(match digits.len() % GROUP {
        0 => GROUP,
        n => n,
    });
    let join = |value: u32, group: &[u8]| value.wrapping_mul(0x1717_9149).wrapping_add(read_group(group));
    let value = rest.chunks(GROUP).fold(read_group(first), join);
    Ok(TokenText {
        token: Token(value),
        plain: text.parse::<u32>().is_ok_and(|plain| plain == value) && !text.starts_with('+'),
    })
}

/// Reads a list of tokens, `"1,200,3000"`, in the order in which other nodes number them: the last one written is the
/// first, and it is the only one that gossip and C nodes know of.
pub fn parse_list(text: &str) -> Result<Vec<TokenText>, NoToken> {
    text.rsplit(',').map(parse).collect()
}

/// At most ten bytes, modulo 2^32.
fn read_group(group: &[u8]) -> u32 {
    if !group.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    group.iter().fold(0_u32, |value, digit| value.wrapping_mul(10).wrapping_add(u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, token: u32, plain: bool) {
        assert_eq!(parse(text), Ok(TokenText { token: Token(token), plain }), "{text}");
    }

    #[test]
    fn plain_tokens() {
        check("0", 0, true);
        check("7", 7, true);
        check("1383429731", 1_383_429_731, true);
        check("4294967295", u32::MAX, true);
    }

    #[test]
    fn tokens_that_wrap() {
        check("4294967296", 0, false);
        check("9999999999", 1_410_065_407, false);
        check("12345678901", 2_733_099_390, false);
        check("123456789012345678901", 3_042_642_723, false);
    }

    #[test]
    fn tokens_that_are_none() {
        check("12a", 0, false);
        check(" 5", 0, false);
        check("+5", 0, false);
        check("00000000005", 5, true);
        check("x0000000005", 5, false);
        check("-5", u32::MAX, false);
        check("-0", u32::MAX, false);
        for text in ["", "-", &"1".repeat(1001)] {
            assert_eq!(parse(text), Err(NoToken), "{text}");
        }
    }

    #[test]
    fn a_list_starts_with_the_last_one_written() {
        let tokens = |text| parse_list(text).map(|list| list.iter().map(|text| text.token.0).collect::<Vec<_>>());
        assert_eq!(tokens("1,200,3000"), Ok(vec![3000, 200, 1]));
        assert_eq!(tokens("9"), Ok(vec![9]));
        assert_eq!(tokens("1,,3"), Err(NoToken));
        assert_eq!(tokens(""), Err(NoToken));
    }
}
