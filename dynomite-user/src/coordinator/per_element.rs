//! Arrays with an element for each key, decided key by key; and sets, whose elements come in any order.
//! Owns: taking such replies apart and joining one. Knows nothing of: racks, levels.

use smallvec::SmallVec;

use crate::protocol::resp::encode;

/// For each element what at least `quorum` of the answers say. Where they do not: the first answer's element, or nothing
/// at all if it must be `safe`. `None` also if the answers are not flat arrays of the same length.
pub fn majority(answers: &[&[u8]], quorum: usize, safe: bool) -> Option<Vec<u8>> {
    let (first, others) = answers.split_first()?;
    let mut elements: SmallVec<[Elements<'_>; 8]> = SmallVec::new();
    for answer in answers {
        elements.push(Elements::of(answer)?);
    }
    let count = elements[0].left;
    if others.is_empty() && quorum > 1 && safe || elements.iter().any(|other| other.left != count) {
        return None;
    }
    let mut joined = Vec::with_capacity(first.len());
    encode::array_head(count, &mut joined);
    for _ in 0..count {
        let mut here: SmallVec<[&[u8]; 8]> = SmallVec::new();
        for answer in &mut elements {
            here.push(answer.next()?);
        }
        let agreed = here.iter().find(|one| here.iter().filter(|other| other == one).count() >= quorum);
        match agreed {
            Some(element) => joined.extend_from_slice(element),
            None if safe => return None,
            None => joined.extend_from_slice(here[0]),
        }
    }
    elements.iter().all(|answer| answer.rest.is_empty()).then_some(joined)
}

/// Are these arrays of the same elements, in whatever order?
pub fn same_elements(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let sorted = |frame| {
        let mut elements = Elements::of(frame)?;
        let mut sorted = Vec::with_capacity(elements.left);
        for _ in 0..elements.left {
            sorted.push(elements.next()?);
        }
        sorted.sort_unstable();
        Some(sorted)
    };
    sorted(one).is_some_and(|one| Some(one) == sorted(other))
}

/// The elements of an array of bulks, nulls, numbers, statuses and errors.
struct Elements<'a> {
    left: usize,
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    fn of(frame: &'a [u8]) -> Option<Elements<'a>> {
        let (head, rest) = line(frame.strip_prefix(b"*")?)?;
        let left = number(head)?;
        // An element has three bytes at least.
        (left <= rest.len() / 3).then_some(Elements { left, rest })
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        let (head, behind) = line(self.rest)?;
        let len = match head.first()? {
            b'$' if head != b"$-1" => self.rest.len() - behind.len() + number(&head[1..])?.checked_add(2)?,
            b'$' | b':' | b'+' | b'-' | b'_' | b',' | b'#' => self.rest.len() - behind.len(),
            _ => return None,
        };
        let (element, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(element)
    }
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\r', bytes)?;
    Some((&bytes[..end], bytes.get(end + 2..)?))
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Answers are `a,b,-`: an array of bulks, `-` for null; `x` and `x` alone stands for what is no array.
    fn array(text: &str) -> Vec<u8> {
        if text == "x" {
            return b"$1\r\nx\r\n".to_vec();
        }
        let mut frame = Vec::new();
        let elements: Vec<_> = text.split(',').filter(|element| !element.is_empty()).collect();
        encode::array_head(elements.len(), &mut frame);
        for element in elements {
            match element {
                "-" => frame.extend_from_slice(b"$-1\r\n"),
                element => encode::bulk(element.as_bytes(), &mut frame),
            }
        }
        frame
    }

    fn check(quorum: usize, answers: &str, any: Option<&str>, safe: Option<&str>) {
        let frames: Vec<_> = answers.split_whitespace().map(array).collect();
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        assert_eq!(majority(&frames, quorum, false), any.map(array), "{answers}");
        assert_eq!(majority(&frames, quorum, true), safe.map(array), "{answers}, safe");
    }

    #[test]
    fn each_element_has_its_own_majority() {
        check(2, "a,b,c x,b,c a,y,c", Some("a,b,c"), Some("a,b,c"));
        check(2, "a,-,c -,-,c a,y,-", Some("a,-,c"), Some("a,-,c"));
        check(2, "a b c", Some("a"), None);
        check(2, "a,k b,k c,k", Some("a,k"), None);
        check(2, "a,k b,k", Some("a,k"), None);
        check(2, "a,k", Some("a,k"), None);
        check(1, "a,k", Some("a,k"), Some("a,k"));
    }

    #[test]
    fn sets_are_the_same_in_any_order() {
        let same = |one: &str, other: &str| same_elements(&array(one), &array(other));
        assert!(same("a,b,cc,-", "cc,a,-,b"));
        assert!(same("", ""));
        assert!(!same("a,b", "a,a"));
        assert!(!same("a,b", "a,c"));
        assert!(!same("a,b", "a"));
        assert!(!same("x", "x"), "no array");
        assert!(!same_elements(b"*1\r\n*1\r\n:1\r\n", b"*1\r\n*1\r\n:1\r\n"), "nested");
    }

    #[test]
    fn what_cannot_be_compared_is_not() {
        check(2, "a,b a", None, None);
        check(2, "a,b x", None, None);
        check(1, "x", None, None);
        assert_eq!(majority(&[], 1, false), None);
        for nested in [
            &b"*1\r\n*1\r\n:1\r\n"[..],
            b"*2\r\n:1\r\n",
            b"*9999999999\r\n",
            b"*-1\r\n",
            b"*1\r\n$99999999999999999999\r\n",
        ] {
            assert_eq!(majority(&[nested], 1, false), None, "{}", nested.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(answers in prop::collection::vec(prop::collection::vec(prop::sample::select(&b"*$-1203\r\n:+a"[..]), 0..30), 0..4)) {
            let answers: Vec<&[u8]> = answers.iter().map(Vec::as_slice).collect();
            majority(&answers, 2, false);
            answers.iter().for_each(|answer| _ = same_elements(answer, answers[0]));
        }
    }
}
