//! A client's bytes → requests, answered where they cannot be one as memcached answers them.
//! Owns: how far the request at the head of the inbox was read. Knows nothing of: where requests go.
//! Next on the walk: the coordinator; `rewrite` for what is not forwarded as it came.
//!
//! What is handed on is sent over a connection that clients share, so it must take exactly the bytes of its frame and give
//! exactly one reply from any memcached. Whatever could make one take fewer, such as a bad number in front of a data block,
//! is answered here.

use super::KEY_BYTES_MAX;
use super::commands::{self, Form, Row};
use super::line::{Words, signed, unsigned, word_len};
use super::spread::{Key, Spread};
use crate::protocol::Protocol;
use crate::protocol::commands::Routing;
use crate::protocol::request::{Decoded, Limits, Request};

const ERROR: &[u8] = b"ERROR\r\n";
const BAD_LINE: &[u8] = b"CLIENT_ERROR bad command line format\r\n";
const BAD_CHUNK: &[u8] = b"CLIENT_ERROR bad data chunk\r\n";
const BAD_DELTA: &[u8] = b"CLIENT_ERROR invalid numeric delta argument\r\n";
const BAD_EXPTIME: &[u8] = b"CLIENT_ERROR invalid exptime argument\r\n";
const BAD_DELETE: &[u8] = b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n";
const BAD_KEY: &[u8] = b"CLIENT_ERROR error decoding key\r\n";
const DUPLICATE: &[u8] = b"CLIENT_ERROR duplicate flag\r\n";
const INVALID_OR_DUPLICATE: &[u8] = b"CLIENT_ERROR invalid or duplicate flag\r\n";
const MANY_FLAGS: &[u8] = b"CLIENT_ERROR options flags too long\r\n";
const LONG_LINE: &[u8] = b"CLIENT_ERROR line too long\r\n";
const LARGE: &[u8] = b"SERVER_ERROR object too large for cache\r\n";
const SHUTDOWN: &[u8] = b"ERROR: shutdown not enabled\r\n";
const NO_VALUES: &[u8] = b"END\r\n";

/// With more flags than this, memcached answers `ms` without taking its data.
const STORE_FLAGS_MAX: usize = 16;
/// memcached takes no data block longer than this, and says so without taking the data.
const DATA_BYTES_MAX: u64 = i32::MAX as u64 - 2;
/// memcached closes a connection on which a longer line comes, unless it lists keys for `get` or `gets`.
const LINE_BYTES_MAX: usize = 2048;
/// With this a connection in memcached's binary protocol begins.
const BINARY: u8 = 0x80;
const NO_BINARY: &[u8] = b"CLIENT_ERROR the binary protocol is not served\r\n";
const DATA_END: &[u8] = b"\r\n";

/// Finds requests at the head of an inbox. It never looks twice at a byte of a line that is not complete.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// What this connection begins with was seen to be text.
    is_text: bool,
    /// The key of the last request, if it came in base64.
    key: [u8; KEY_BYTES_MAX],
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// At the start of a request, so many bytes of which hold no end of line.
    Line { searched: usize },
    /// The line is here and good; so many bytes are the whole request.
    Data { whole: usize },
    /// What is left of a refused request's data is dropped as it comes.
    Drop { left: usize, answer: Option<&'static [u8]> },
}

/// What a line turned out to be.
enum Line {
    Request {
        row: &'static Row,
        key: Key,
        quiet: bool,
        verbatim: bool,
        data: Option<u64>,
    },
    /// Answered with an error, or with nothing if it was quiet; `data` then comes behind it and is dropped.
    Refused {
        answer: Option<&'static [u8]>,
        data: Option<u64>,
    },
    /// A command of memcached's that has no place here, and why.
    NotServed(&'static str),
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { state: State::Line { searched: 0 }, is_text: false, key: [0; KEY_BYTES_MAX] }
    }
}

impl Decoder {
    pub fn decode<'a>(&'a mut self, inbox: &'a [u8], limits: &Limits) -> Decoded<'a> {
        if !self.is_text && !inbox.is_empty() {
            self.is_text = true;
            if inbox[0] == BINARY {
                return Decoded::Broken { error: NO_BINARY.to_vec() };
            }
        }
        match self.state {
            State::Line { searched: 0 } => {
                if let Some(decoded) = single_get(inbox, limits) {
                    return decoded;
                }
            }
            State::Line { .. } => {}
            State::Data { whole } if inbox.len() < whole => return Decoded::Incomplete { need: whole },
            State::Data { .. } => self.state = State::Line { searched: 0 },
            State::Drop { left, answer } => return self.drop_data(inbox.len(), left, answer),
        }
        let end = match self.line_end(inbox, limits) {
            Ok(end) => end,
            Err(decoded) => return decoded,
        };
        let crlf = end > 0 && inbox[end - 1] == b'\r';
        let line = &inbox[..if crlf { end - 1 } else { end }];
        let head = end + 1;
        let mut args = 0;
        let parsed = parse(line, &mut self.key, &mut args);
        if args > limits.arguments_max {
            return refused(head, Some(LONG_LINE));
        }
        match parsed {
            Line::NotServed(why) => {
                Decoded::Refused { consumed: head, error: format!("CLIENT_ERROR {why}\r\n").into_bytes() }
            }
            Line::Refused { answer, data: None } => refused(head, answer),
            Line::Refused { answer, data: Some(data) } => self.drop_data(inbox.len(), whole(head, data), answer),
            Line::Request { row, key, quiet, verbatim, data } => {
                let consumed = match data {
                    None => head,
                    Some(data) => {
                        let whole = whole(head, data);
                        if whole > limits.request_bytes_max {
                            let answer = (!quiet || row.form == Form::MetaStore).then_some(LARGE);
                            return self.drop_data(inbox.len(), whole, answer);
                        }
                        if inbox.len() < whole {
                            self.state = State::Data { whole };
                            return Decoded::Incomplete { need: whole };
                        }
                        if &inbox[whole - DATA_END.len()..whole] != DATA_END {
                            return refused(whole, (!quiet || row.form == Form::MetaStore).then_some(BAD_CHUNK));
                        }
                        whole
                    }
                };
                let start = if line[0] == b' ' { line.iter().position(|&byte| byte != b' ').unwrap_or(0) } else { 0 };
                Decoded::Request {
                    consumed,
                    request: Request {
                        frame: &inbox[start..consumed],
                        verbatim: verbatim && crlf && !quiet,
                        command: &row.command,
                        args,
                        key: match key {
                            Key::None => None,
                            Key::At(from, to) => Some(&inbox[from..to]),
                            Key::Decoded(len) => Some(&self.key[..len]),
                        },
                        quiet,
                        protocol: Protocol::Memcache,
                    },
                }
            }
        }
    }

    /// The place of the line's `\n`.
    fn line_end(&mut self, inbox: &[u8], limits: &Limits) -> Result<usize, Decoded<'static>> {
        let State::Line { searched } = self.state else { unreachable!("other states were left before") };
        let unsearched = inbox.get(searched..).unwrap_or_default();
        let found = memchr::memchr(b'\n', unsearched).map(|at| searched + at);
        let known = found.unwrap_or(inbox.len());
        if known >= limits.line_bytes_max.min(LINE_BYTES_MAX) && known >= line_bytes_max(inbox, limits) {
            return Err(Decoded::Broken { error: LONG_LINE.to_vec() });
        }
        self.state = State::Line { searched: if found.is_some() { 0 } else { known } };
        found.ok_or(Decoded::Incomplete { need: inbox.len() + 1 })
    }

    /// Drops as much of `left` bytes as is here, and answers when all have come.
    fn drop_data(&mut self, here: usize, left: usize, answer: Option<&'static [u8]>) -> Decoded<'static> {
        if left <= here {
            self.state = State::Line { searched: 0 };
            return refused(left, answer);
        }
        self.state = State::Drop { left: left - here, answer };
        if here == 0 { Decoded::Incomplete { need: 1 } } else { Decoded::Skip { consumed: here } }
    }
}

fn refused(consumed: usize, answer: Option<&'static [u8]>) -> Decoded<'static> {
    match answer {
        Some(error) => Decoded::Refused { consumed, error: error.to_vec() },
        None => Decoded::Skip { consumed },
    }
}

/// Is this an answer to what is too long?
pub fn is_of_a_limit(error: &[u8]) -> bool {
    error == LONG_LINE || error == LARGE
}

fn whole(head: usize, data: u64) -> usize {
    usize::try_from(data).unwrap_or(usize::MAX).saturating_add(head + DATA_END.len())
}

/// Only lists of keys may be long.
fn line_bytes_max(inbox: &[u8], limits: &Limits) -> usize {
    match Words::of_line(inbox).next() {
        Some(b"get" | b"gets") => limits.request_bytes_max,
        _ => limits.line_bytes_max.min(LINE_BYTES_MAX),
    }
}

/// The request that matters most, in one pass: `get`, one blank, one key, CR LF.
fn single_get<'a>(inbox: &'a [u8], limits: &Limits) -> Option<Decoded<'a>> {
    const HEAD: &[u8] = b"get ";
    let rest = inbox.strip_prefix(HEAD)?;
    let len = word_len(rest);
    if len == 0 || len > KEY_BYTES_MAX || !rest[len..].starts_with(b"\r\n") {
        return None;
    }
    let consumed = HEAD.len() + len + 2;
    if consumed > limits.request_bytes_max {
        return None;
    }
    Some(Decoded::Request {
        consumed,
        request: Request {
            frame: &inbox[..consumed],
            verbatim: true,
            command: &commands::ROWS[commands::GET as usize].command,
            args: 2,
            key: Some(&rest[..len]),
            quiet: false,
            protocol: Protocol::Memcache,
        },
    })
}

fn parse(line: &[u8], scratch: &mut [u8; KEY_BYTES_MAX], args: &mut u32) -> Line {
    // memcached would stop reading at a zero byte, the C program at a carriage return: neither sees the keys that we see.
    let Some(words) = Spread::of(line) else { return refuse(BAD_LINE, false) };
    let Some(row) = words.get(0).and_then(commands::find) else { return refuse(ERROR, false) };
    let count = words.count - 1;
    *args = words.count;
    match row.command.routing {
        // The words of a memcached that was started without `-A`.
        Routing::Refused(_) if row.command.verb.0 == commands::SHUTDOWN => return refuse(SHUTDOWN, false),
        Routing::Refused(why) => return Line::NotServed(why),
        _ => {}
    }
    if count < row.words.0 || count > row.words.1 {
        return refuse(ERROR, false);
    }
    // A key may be called `noreply` too.
    let quiet = row.form.may_be_quiet() && words.last == b"noreply" && (row.form != Form::Delete || count > 1);
    let request = |key, verbatim, data| Line::Request { row, key, quiet, verbatim, data };
    match row.form {
        Form::Open | Form::Bare | Form::Setting => request(Key::None, true, None),
        Form::Flush => match words.get(1).filter(|_| count > u32::from(quiet)) {
            Some(delay) if signed(delay).is_none() => refuse(BAD_EXPTIME, quiet),
            _ => request(Key::None, count < 2, None),
        },
        Form::Get if words.longest > KEY_BYTES_MAX => refuse(BAD_LINE, false),
        Form::Get => request(words.key(1), true, None),
        Form::GetAndTouch => match words.get(1).and_then(signed) {
            None => refuse(BAD_EXPTIME, false),
            Some(_) if count == 1 => refuse(NO_VALUES, false),
            Some(_) if words.longest > KEY_BYTES_MAX => refuse(BAD_LINE, false),
            Some(_) => request(words.key(2), true, None),
        },
        _ if !words.has_key() => match row.form {
            Form::Delete if !is_plain_delete(&words) => refuse(BAD_DELETE, quiet),
            _ => refuse(BAD_LINE, quiet),
        },
        Form::Arithmetic => match words.get(2).and_then(plain_unsigned) {
            None => refuse(BAD_DELTA, quiet),
            Some((_, plain)) => request(words.key(1), plain && count == 2, None),
        },
        Form::Touch => match words.get(2).and_then(plain_time) {
            None => refuse(BAD_EXPTIME, quiet),
            Some(plain) => request(words.key(1), plain && count == 2, None),
        },
        Form::Delete if is_plain_delete(&words) => request(words.key(1), count == 1, None),
        Form::Delete => refuse(BAD_DELETE, quiet),
        Form::Store | Form::Cas => match store(&words, row.form) {
            None => refuse(BAD_LINE, quiet),
            Some((plain, data)) => request(words.key(1), plain && count == row.words.0, Some(data)),
        },
        Form::Meta => meta(&words, row, scratch),
        Form::MetaStore => meta_store(&words, row, scratch),
        Form::MetaDebug if words.get(2) == Some(b"b") => match words.key_in_base64(scratch) {
            Some(key) => request(key, true, None),
            None => refuse(BAD_LINE, false),
        },
        Form::MetaDebug => request(words.key(1), true, None),
    }
}

fn refuse(answer: &'static [u8], quiet: bool) -> Line {
    Line::Refused { answer: (!quiet).then_some(answer), data: None }
}

/// `delete <key>`, with the time that old clients send, with `noreply`.
fn is_plain_delete(words: &Spread<'_>) -> bool {
    match (words.get(2), words.get(3)) {
        (None, _) | (Some(b"0" | b"noreply"), None) => true,
        (Some(second), Some(third)) => second == b"0" && third == b"noreply",
        _ => false,
    }
}

/// A number, and whether it is spelled as the C program takes it.
fn plain_unsigned(word: &[u8]) -> Option<(u64, bool)> {
    unsigned(word).map(|number| (number, word[0] != b'+'))
}

/// Is it a time, and is it spelled as the C program takes it?
fn plain_time(word: &[u8]) -> Option<bool> {
    signed(word).map(|_| word[0].is_ascii_digit())
}

/// `<key> <flags> <exptime> <bytes> [<cas unique>]`: whether all is spelled plainly, and the bytes.
fn store(words: &Spread<'_>, form: Form) -> Option<(bool, u64)> {
    let (flags, flags_plain) = plain_unsigned(words.get(2)?)?;
    let time_plain = plain_time(words.get(3)?)?;
    let (data, data_plain) = plain_unsigned(words.get(4)?)?;
    let cas_plain = if form == Form::Cas { plain_unsigned(words.get(5)?)?.1 } else { true };
    if data > DATA_BYTES_MAX {
        return None;
    }
    let flags_plain = flags_plain && u32::try_from(flags).is_ok();
    Some((flags_plain && time_plain && data_plain && cas_plain, data))
}

/// What flags there are that matter to us.
#[derive(Default)]
struct Flags {
    count: usize,
    quiet: usize,
    base64: bool,
    /// Asks for what only one replica knows.
    own: bool,
    /// Changes the item.
    write: bool,
    /// Only if the item's cas unique is this one.
    compares: bool,
}

fn flags<'a>(words: impl Iterator<Item = &'a [u8]>) -> Flags {
    let mut flags = Flags::default();
    for word in words {
        flags.count += 1;
        match word[0] {
            b'q' => flags.quiet += 1,
            b'b' => flags.base64 = true,
            b'C' => flags.compares = true,
            b'c' | b'h' | b'l' | b't' => flags.own = true,
            b'E' | b'N' | b'R' | b'T' => flags.write = true,
            _ => {}
        }
    }
    flags
}

fn meta(words: &Spread<'_>, row: &'static Row, scratch: &mut [u8; KEY_BYTES_MAX]) -> Line {
    let flags = flags(words.from(2));
    let is_get = row.command.verb.0 == commands::MG;
    // `md` and `ma` have one text for every mistake.
    let refuse = |mistake| refuse(if is_get { mistake } else { INVALID_OR_DUPLICATE }, false);
    if flags.quiet > 1 {
        return refuse(DUPLICATE);
    }
    let Some(key) = (if flags.base64 { words.key_in_base64(scratch) } else { Some(words.key(1)) }) else {
        return refuse(BAD_KEY);
    };
    let row = match row.command.verb.0 {
        commands::MG if flags.write => &commands::ROWS[usize::from(commands::MG_WRITE)],
        commands::MG if flags.own => &commands::ROWS[usize::from(commands::MG_OWN)],
        commands::MD if flags.compares => &commands::ROWS[usize::from(commands::MD_CAS)],
        commands::MA if flags.compares => &commands::ROWS[usize::from(commands::MA_CAS)],
        _ => row,
    };
    Line::Request { row, key, quiet: flags.quiet == 1, verbatim: true, data: None }
}

fn meta_store(words: &Spread<'_>, row: &'static Row, scratch: &mut [u8; KEY_BYTES_MAX]) -> Line {
    let data = words.get(2).and_then(unsigned).filter(|&data| data <= DATA_BYTES_MAX);
    let Some(data) = data else { return refuse(BAD_LINE, false) };
    let flags = flags(words.from(3));
    if flags.count > STORE_FLAGS_MAX {
        return refuse(MANY_FLAGS, false);
    }
    let refuse = |answer| Line::Refused { answer: Some(answer), data: Some(data) };
    if flags.quiet > 1 {
        return refuse(DUPLICATE);
    }
    let Some(key) = (if flags.base64 { words.key_in_base64(scratch) } else { Some(words.key(1)) }) else {
        return refuse(BAD_KEY);
    };
    let row = if flags.compares { &commands::ROWS[usize::from(commands::MS_CAS)] } else { row };
    Line::Request { row, key, quiet: flags.quiet == 1, verbatim: true, data: Some(data) }
}

#[cfg(test)]
mod tests;
