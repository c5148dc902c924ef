//! The classic commands.

use super::{Mode, NOT_NUMERIC, New, Store, Stored, TOO_LARGE, VERSION};
use crate::protocol::memcache::commands::{self, Form, row};
use crate::protocol::memcache::line::{signed, unsigned, write_number};
use crate::protocol::request::Request;

fn number(word: Option<&&[u8]>) -> u64 {
    word.and_then(|word| unsigned(word)).unwrap_or(0)
}

fn time(word: Option<&&[u8]>) -> i64 {
    word.and_then(|word| signed(word)).unwrap_or(0)
}

impl Store {
    pub(super) fn classic(&mut self, request: &Request<'_>, words: &[&[u8]], data: &[u8], out: &mut Vec<u8>) {
        let key = request.key.unwrap_or_default();
        let say = |text: &str, out: &mut Vec<u8>| {
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\r\n");
        };
        match row(request.command).form {
            Form::Get => self.values(&words[1..], request.command.verb.0 == commands::GETS, None, out),
            Form::GetAndTouch => {
                let end = self.end(time(words.get(1)));
                self.values(&words[2..], request.command.verb.0 == commands::GATS, Some(end), out);
            }
            Form::Store | Form::Cas => {
                let mode = match request.command.verb.0 {
                    commands::ADD => Mode::Add,
                    commands::REPLACE => Mode::Replace,
                    commands::APPEND => Mode::Append,
                    commands::PREPEND => Mode::Prepend,
                    _ => Mode::Set,
                };
                let new = New {
                    mode,
                    flags: number(words.get(2)) as u32,
                    expires_at: self.end(time(words.get(3))),
                    data,
                    cas: (row(request.command).form == Form::Cas).then(|| number(words.get(5))),
                    invalidate: false,
                    base64: false,
                };
                match self.store(key, new) {
                    Stored::Yes => say("STORED", out),
                    Stored::No => say("NOT_STORED", out),
                    Stored::Exists => say("EXISTS", out),
                    Stored::NotFound => say("NOT_FOUND", out),
                    Stored::TooLarge => out.extend_from_slice(TOO_LARGE),
                }
            }
            Form::Arithmetic => {
                let down = request.command.verb.0 == commands::DECR;
                if self.live(key).is_none() {
                    return say("NOT_FOUND", out);
                }
                match self.count(key, number(words.get(2)), down) {
                    Some(number) => {
                        write_number(number, out);
                        out.extend_from_slice(b"\r\n");
                    }
                    None => out.extend_from_slice(NOT_NUMERIC),
                }
            }
            Form::Touch => {
                let end = self.end(time(words.get(2)));
                match self.live(key) {
                    Some(item) => {
                        item.expires_at = end;
                        say("TOUCHED", out);
                    }
                    None => say("NOT_FOUND", out),
                }
            }
            Form::Delete => {
                let here = self.live(key).is_some();
                self.items.remove(key);
                say(if here { "DELETED" } else { "NOT_FOUND" }, out);
            }
            Form::Flush => {
                // A delay is a time like an item's: 0 and none are now.
                match self.end(time(words.get(1))) {
                    Some(at) if at > self.now => self.flush_at = Some(at),
                    _ => self.items = Default::default(),
                }
                say("OK", out);
            }
            Form::Setting => {
                say(if unsigned(words.get(1).unwrap_or(&&b""[..])).is_some() { "OK" } else { "ERROR" }, out)
            }
            Form::Open if words.len() == 1 => {
                say("STAT pid 0", out);
                say(&format!("STAT time {}", self.now), out);
                say(&format!("STAT version {VERSION}"), out);
                say(&format!("STAT curr_items {}", self.items.len()), out);
                say("END", out);
            }
            Form::Open => say(if words[1] == b"reset" { "RESET" } else { "END" }, out),
            _ => say(&format!("VERSION {VERSION}"), out),
        }
    }

    fn values(&mut self, keys: &[&[u8]], with_cas: bool, touch: Option<Option<u64>>, out: &mut Vec<u8>) {
        let now = self.now;
        for key in keys {
            let Some(item) = self.live(key) else { continue };
            if let Some(end) = touch {
                item.expires_at = end;
            }
            (item.hit, item.seen_at) = (true, now);
            out.extend_from_slice(b"VALUE ");
            out.extend_from_slice(key);
            out.push(b' ');
            write_number(item.flags.into(), out);
            out.push(b' ');
            write_number(item.data.len() as u64, out);
            if with_cas {
                out.push(b' ');
                write_number(item.cas, out);
            }
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(&item.data);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"END\r\n");
    }
}
