//! Patterns as KEYS and COMMAND LIST have them: `*`, `?`, `[a-z]`, `[^a]`, `\` before what stands for itself.

/// Does all of `text` fit the pattern? Time is bounded by the product of both lengths: a star that failed is only tried
/// again from where the last one began.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // What to go back to: the pattern behind the last star, and the text from which it was tried.
    let mut back: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            pattern = rest;
            back = Some((pattern, text));
            continue;
        }
        match (text.split_first(), one(pattern)) {
            (None, _) if pattern.is_empty() => return true,
            (Some((&byte, behind)), Some((fits, rest))) if fits.fits(byte) => (pattern, text) = (rest, behind),
            _ => match back {
                Some((after, [_, behind @ ..])) => {
                    (pattern, text) = (after, behind);
                    back = Some((after, behind));
                }
                _ => return false,
            },
        }
    }
}

/// What one byte must be.
enum One<'a> {
    Any,
    Byte(u8),
    /// The inside of brackets.
    Class {
        set: &'a [u8],
        negated: bool,
    },
}

impl One<'_> {
    fn fits(&self, byte: u8) -> bool {
        match *self {
            One::Any => true,
            One::Byte(expected) => byte == expected,
            One::Class { mut set, negated } => {
                let mut found = false;
                loop {
                    set = match set {
                        [] => return found != negated,
                        [b'\\', escaped, rest @ ..] => {
                            found |= byte == *escaped;
                            rest
                        }
                        [from, b'-', to, rest @ ..] => {
                            found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                            rest
                        }
                        [one, rest @ ..] => {
                            found |= byte == *one;
                            rest
                        }
                    };
                }
            }
        }
    }
}

/// The first thing of a pattern that is no star, and what is behind it.
fn one(pattern: &[u8]) -> Option<(One<'_>, &[u8])> {
    Some(match pattern {
        [] => return None,
        [b'?', rest @ ..] => (One::Any, rest),
        [b'\\', escaped, rest @ ..] => (One::Byte(*escaped), rest),
        [b'[', inside @ ..] => {
            let (negated, inside) = match inside {
                [b'^', inside @ ..] => (true, inside),
                inside => (false, inside),
            };
            // A bracket that is never closed reaches to the end.
            let mut end = 0;
            while end < inside.len() && inside[end] != b']' {
                end += if inside[end] == b'\\' { 2 } else { 1 };
            }
            let end = end.min(inside.len());
            (One::Class { set: &inside[..end], negated }, inside.get(end + 1..).unwrap_or_default())
        }
        [byte, rest @ ..] => (One::Byte(*byte), rest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, fitting: &[&str], others: &[&str]) {
        for (texts, expected) in [(fitting, true), (others, false)] {
            for text in texts {
                assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text:?}");
            }
        }
    }

    #[test]
    fn patterns() {
        check("", &[""], &["a"]);
        check("abc", &["abc"], &["ab", "abcd", "", "abd"]);
        check("a*c", &["ac", "abc", "acbc"], &["ab", "bac", "aca"]);
        check("*", &["", "a", "abc"], &[]);
        check("**a*", &["a", "bab"], &["", "b"]);
        check("h?llo", &["hello", "h?llo"], &["hllo", "heello"]);
        check("h[ae]llo", &["hello", "hallo"], &["hillo", "hllo"]);
        check("h[^e]llo", &["hallo"], &["hello"]);
        check("[a-c]1", &["a1", "c1"], &["d1", "-1"]);
        check("[c-a]", &["b"], &["d"]);
        check("[\\]a]", &["]", "a"], &["\\"]);
        check("\\*a", &["*a"], &["ba", "\\a"]);
        check("[ab", &["a", "b"], &["[", "c"]);
        check("a\\", &["a\\"], &["a"]);
    }

    #[test]
    fn many_stars_end_soon() {
        let text = b"a".repeat(20_000);
        assert!(!matches(b"*a*a*a*a*a*a*a*a*b", &text));
    }
}
