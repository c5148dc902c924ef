//! A command line, read once: where its words are.
//! Owns: positions. Knows nothing of: what the words mean, beyond which of them may be a key.

use super::KEY_BYTES_MAX;
use super::line::{Words, decode_base64, word_len};

/// Words whose places are kept. Lines with more of them are lists of keys, or of flags nobody sends.
const KEPT: usize = 10;

pub struct Spread<'a> {
    line: &'a [u8],
    places: [(u32, u32); KEPT],
    /// All words, the name too.
    pub count: u32,
    pub last: &'a [u8],
    /// Bytes of the longest word behind the name.
    pub longest: usize,
}

/// Where a request's key is.
pub enum Key {
    None,
    /// From and to, in the line.
    At(usize, usize),
    /// So many bytes of what it was decoded to.
    Decoded(usize),
}

impl<'a> Spread<'a> {
    /// Nothing if there is a zero byte or a carriage return in the line.
    pub fn of(line: &'a [u8]) -> Option<Spread<'a>> {
        let mut spread = Spread { line, places: [(0, 0); KEPT], count: 0, last: &[], longest: 0 };
        let mut at = 0;
        while at < line.len() {
            if line[at] == b' ' {
                at += 1;
                continue;
            }
            let from = at;
            loop {
                at += word_len(&line[at..]);
                match line.get(at) {
                    None | Some(b' ') => break,
                    Some(0 | b'\r') => return None,
                    // Other control characters are memcached's business.
                    Some(_) => at += 1,
                }
            }
            if let Some(place) = spread.places.get_mut(spread.count as usize) {
                *place = (from as u32, at as u32);
            }
            if spread.count > 0 {
                spread.longest = spread.longest.max(at - from);
            }
            spread.last = &line[from..at];
            spread.count = spread.count.saturating_add(1);
        }
        Some(spread)
    }

    /// A word of those that are kept.
    pub fn get(&self, place: usize) -> Option<&'a [u8]> {
        let (from, to) = *self.places[..(self.count as usize).min(KEPT)].get(place)?;
        Some(&self.line[from as usize..to as usize])
    }

    /// All words from the given one on.
    pub fn from(&self, place: usize) -> impl Iterator<Item = &'a [u8]> {
        let kept = (place..KEPT).map_while(|place| self.get(place));
        let behind = if self.count as usize > KEPT { self.places[KEPT - 1].1 as usize } else { self.line.len() };
        kept.chain(Words::of_line(&self.line[behind..]))
    }

    /// Is the first argument one that may be a key?
    pub fn has_key(&self) -> bool {
        self.get(1).is_some_and(|key| key.len() <= KEY_BYTES_MAX)
    }

    pub fn key(&self, place: usize) -> Key {
        let (from, to) = self.places[place];
        Key::At(from as usize, to as usize)
    }

    /// The first argument's meaning, put into `scratch`.
    pub fn key_in_base64(&self, scratch: &mut [u8; KEY_BYTES_MAX]) -> Option<Key> {
        decode_base64(self.get(1)?, scratch).map(Key::Decoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_where_an_iterator_finds_them() {
        for count in 0..25 {
            let words: Vec<String> = (0..count).map(|n| format!("w{}", "x".repeat(n))).collect();
            for blanks in [" ", "   "] {
                let line = format!("{}{}", words.join(blanks), blanks.trim_start_matches("  "));
                let spread = Spread::of(line.as_bytes()).unwrap();
                assert_eq!(spread.count as usize, count);
                assert_eq!(spread.last, words.last().map_or(&b""[..], |word| word.as_bytes()));
                assert!(spread.from(0).eq(Words::of_line(line.as_bytes())), "{line}");
                assert!(spread.from(2).eq(Words::of_line(line.as_bytes()).skip(2)), "{line}");
            }
        }
        assert!(Spread::of(b"get a\tb").is_some_and(|spread| spread.last == b"a\tb"));
        assert!(Spread::of(b"get a\rb").is_none());
        assert!(Spread::of(b"get a\0").is_none());
    }
}
