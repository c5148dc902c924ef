//! Inline commands: a line of words, as somebody with telnet types them.
//! Owns: Redis' rules of quoting. A line becomes an array, which is all that datastores and peers get to see.

use super::encode;

/// A quote was opened and not closed, or text stands right behind a closing one.
#[derive(Debug, PartialEq, Eq)]
pub struct Unbalanced;

/// Writes the words of `line` into `array` as a frame and says how many there are; with none, `array` means nothing.
pub fn to_array(line: &[u8], array: &mut Vec<u8>) -> Result<u32, Unbalanced> {
    let mut words = Words { rest: line };
    let mut word = Vec::new();
    let mut count = 0;
    array.clear();
    while words.next_into(&mut word)? {
        encode::bulk(&word, array);
        count += 1;
    }
    if count > 0 {
        // The count is known last and stands first.
        let bulks = array.len();
        encode::array_head(count as usize, array);
        let head = array.len() - bulks;
        array.rotate_right(head);
    }
    Ok(count)
}

struct Words<'a> {
    rest: &'a [u8],
}

impl Words<'_> {
    fn next_into(&mut self, word: &mut Vec<u8>) -> Result<bool, Unbalanced> {
        word.clear();
        self.rest = &self.rest[self.rest.iter().take_while(|&&byte| is_blank(byte)).count()..];
        if self.rest.is_empty() {
            return Ok(false);
        }
        while let [byte, rest @ ..] = self.rest {
            self.rest = rest;
            match byte {
                // Blanks end a word; the two rarer ones only stand between words.
                b' ' | b'\n' | b'\r' | b'\t' => break,
                b'"' => {
                    self.double_quoted(word)?;
                    break;
                }
                b'\'' => {
                    self.single_quoted(word)?;
                    break;
                }
                other => word.push(*other),
            }
        }
        Ok(true)
    }

    fn double_quoted(&mut self, word: &mut Vec<u8>) -> Result<(), Unbalanced> {
        loop {
            let (byte, len) = match self.rest {
                [b'"', ..] => return self.close(),
                [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    (hex(*high) << 4 | hex(*low), 4)
                }
                [b'\\', escaped, ..] => (unescape(*escaped), 2),
                [byte, ..] => (*byte, 1),
                [] => return Err(Unbalanced),
            };
            word.push(byte);
            self.rest = &self.rest[len..];
        }
    }

    fn single_quoted(&mut self, word: &mut Vec<u8>) -> Result<(), Unbalanced> {
        loop {
            let (byte, len) = match self.rest {
                [b'\\', b'\'', ..] => (b'\'', 2),
                [b'\'', ..] => return self.close(),
                [byte, ..] => (*byte, 1),
                [] => return Err(Unbalanced),
            };
            word.push(byte);
            self.rest = &self.rest[len..];
        }
    }

    /// Behind a closing quote the word must be over.
    fn close(&mut self) -> Result<(), Unbalanced> {
        self.rest = &self.rest[1..];
        match self.rest.first() {
            Some(&byte) if !is_blank(byte) => Err(Unbalanced),
            _ => Ok(()),
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\x0b' | b'\x0c' | b'\r')
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    (digit as char).to_digit(16).unwrap_or(0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Result<&[&str], Unbalanced>) {
        let mut array = Vec::new();
        let words = to_array(line.as_bytes(), &mut array).map(|count| {
            let words: Vec<_> = super::super::arguments::Arguments::of(&array).map(<[u8]>::to_vec).collect();
            assert_eq!(words.len(), count as usize, "{line:?}");
            if count == 0 { Vec::new() } else { words }
        });
        let expected = expected.map(|words| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>());
        assert_eq!(words, expected, "{line:?}");
    }

    #[test]
    fn words() {
        check("", Ok(&[]));
        check(" \t ", Ok(&[]));
        check("PING", Ok(&["PING"]));
        check("  SET\tkey  value ", Ok(&["SET", "key", "value"]));
        check("\x0bPING \x0cx", Ok(&["PING", "x"]));
        check(&"a ".repeat(12), Ok(&["a"; 12]));
    }

    #[test]
    fn quotes() {
        check(r#"ECHO "a b\x41\n\q\"""#, Ok(&["ECHO", "a bA\nq\""]));
        check(r#"ECHO "\xZZ\x4""#, Ok(&["ECHO", "xZZx4"]));
        check(r"ECHO 'a\'b\n'", Ok(&["ECHO", r"a'b\n"]));
        check(r#"ECHO foo"bar" '' """#, Ok(&["ECHO", "foobar", "", ""]));
        for unbalanced in [r#"ECHO "foo"#, r#"ECHO "foo"bar"#, "ECHO 'a", "ECHO a'b", r#""\"#, "'\\'"] {
            check(unbalanced, Err(Unbalanced));
        }
    }
}
