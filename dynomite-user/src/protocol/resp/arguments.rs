//! The arguments of a canonical frame, walked once more.
//! Owns: a place in a frame. The decoder has checked the frame; one that is not canonical ends early, it never panics.

use super::head::{Head, number};

#[derive(Clone, Debug)]
pub struct Arguments<'a> {
    frame: &'a [u8],
    at: usize,
}

impl<'a> Arguments<'a> {
    #[inline]
    pub fn of(frame: &'a [u8]) -> Arguments<'a> {
        let at = match number(frame, 1) {
            Head::Number { next, .. } => next,
            _ => frame.len(),
        };
        Arguments { frame, at }
    }
}

impl<'a> Iterator for Arguments<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        match number(self.frame, self.at + 1) {
            Head::Number { value, next } => {
                let end = next.checked_add(usize::try_from(value).ok()?)?;
                let argument = self.frame.get(next..end)?;
                self.at = end + 2;
                Some(argument)
            }
            _ => None,
        }
    }
}
