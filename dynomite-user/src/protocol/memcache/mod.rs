//! memcached text, classic and meta commands.

/// The words of a request's first line.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    pub fn of(frame: &'a [u8]) -> Words<'a> {
        let end = frame.iter().position(|&byte| byte == b'\r' || byte == b'\n').unwrap_or(frame.len());
        Words { rest: &frame[..end] }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.rest.iter().position(|&byte| byte != b' ')?;
        let rest = &self.rest[start..];
        let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.rest = rest;
        Some(word)
    }
}
