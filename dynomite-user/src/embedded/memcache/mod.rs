//! A memcached, as far as an application's data go: classic and meta commands of memcached 1.6 with its words.
//! Absent: eviction (what is stored stays), slabs and LRUs, most statistics.
//!
//! Requests come decoded: `protocol::memcache::Decoder` refuses what memcached refuses, and `Silence` keeps quiet as it does.

mod classic;
mod meta;

use super::dict::Dict;
use crate::protocol::commands::Routing;
use crate::protocol::memcache::commands::{Form, row};
use crate::protocol::memcache::line::split_line;
use crate::protocol::memcache::{Decoder, Silence, Words};
use crate::protocol::request::{Decoded, Limits, Request};

/// The memcached whose words are spoken here.
const VERSION: &str = "1.6.18";
/// memcached's `-I`, less what an item costs beside its key and data.
const ITEM_BYTES_MAX: usize = (1 << 20) - 64;
/// Times up to this are counted from now, larger ones from 1970.
const RELATIVE_SECONDS_MAX: i64 = 60 * 60 * 24 * 30;

const TOO_LARGE: &[u8] = b"SERVER_ERROR object too large for cache\r\n";
const NOT_NUMERIC: &[u8] = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";

#[derive(Clone, Debug)]
struct Item {
    flags: u32,
    data: Vec<u8>,
    cas: u64,
    /// Seconds since 1970; nothing: never.
    expires_at: Option<u64>,
    /// Seconds since 1970.
    seen_at: u64,
    /// Asked for since it was stored.
    hit: bool,
    stale: bool,
    /// Somebody was told to fetch it anew.
    won: bool,
    /// Its key came in base64 and is told so.
    base64: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Store {
    items: Dict<Item>,
    /// The last cas id given away.
    cas: u64,
    /// Seconds since 1970; memcached's clock ticks once a second.
    now: u64,
    /// When a delayed flush_all happens.
    flush_at: Option<u64>,
}

/// How storing went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stored {
    Yes,
    No,
    Exists,
    NotFound,
    TooLarge,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
}

/// What is to be stored, and on which condition.
struct New<'a> {
    mode: Mode,
    flags: u32,
    expires_at: Option<u64>,
    data: &'a [u8],
    cas: Option<u64>,
    /// With an older cas id: store it, but as stale.
    invalidate: bool,
    base64: bool,
}

impl Store {
    /// Executes one request and appends its reply, if memcached would say one.
    pub fn execute(&mut self, request: &Request<'_>, now_millis: u64, out: &mut Vec<u8>) {
        self.pass_time(now_millis / 1000);
        let start = out.len();
        self.run(request, out);
        if Silence::of(request).hides(&out[start..]) {
            out.truncate(start);
        }
    }

    /// The same for bytes that are one request.
    pub fn execute_frame(&mut self, frame: &[u8], now_millis: u64, out: &mut Vec<u8>) {
        match Decoder::default().decode(frame, &Limits::default()) {
            Decoded::Request { request, .. } => self.execute(&request, now_millis, out),
            Decoded::Refused { error, .. } | Decoded::Broken { error } => out.extend_from_slice(&error),
            Decoded::Skip { .. } | Decoded::Incomplete { .. } => {}
        }
    }

    /// Everything is gone once its time is; time never goes back.
    fn pass_time(&mut self, now: u64) {
        self.now = self.now.max(now);
        if self.flush_at.is_some_and(|at| at <= self.now) {
            self.flush_at = None;
            self.items = Dict::default();
        }
    }

    fn run(&mut self, request: &Request<'_>, out: &mut Vec<u8>) {
        if request.command.routing == Routing::Node {
            // `quit` is the connection's business and says nothing.
            return if request.command.name == "mn" {
                out.extend_from_slice(b"MN\r\n")
            };
        }
        let words: Vec<&[u8]> = Words::of(request.frame).collect();
        let data = split_line(request.frame).and_then(|(_, head)| request.frame.get(head..)).unwrap_or_default();
        let data = data.strip_suffix(b"\r\n").unwrap_or_default();
        match row(request.command).form {
            Form::Meta | Form::MetaStore | Form::MetaDebug => self.meta(request, &words, data, out),
            _ => self.classic(request, &words, data, out),
        }
    }

    /// The item, if it still lives.
    fn live(&mut self, key: &[u8]) -> Option<&mut Item> {
        let now = self.now;
        if self.items.get(key)?.expires_at.is_some_and(|at| at <= now) {
            self.items.remove(key);
            return None;
        }
        self.items.get_mut(key)
    }

    fn next_cas(&mut self) -> u64 {
        self.cas += 1;
        self.cas
    }

    /// When an item with this time ends.
    fn end(&self, exptime: i64) -> Option<u64> {
        match exptime {
            0 => None,
            ..0 => Some(0),
            1..=RELATIVE_SECONDS_MAX => Some(self.now + exptime as u64),
            _ => Some(exptime as u64),
        }
    }

    /// Stores, or says why not. Its cas id is the last one given away then.
    fn store(&mut self, key: &[u8], new: New<'_>) -> Stored {
        if new.data.len() + key.len() > ITEM_BYTES_MAX {
            // What was there must not outlive what was meant to replace it.
            self.items.remove(key);
            return Stored::TooLarge;
        }
        let before = self.live(key).map(|item| item.clone());
        let mut stale = false;
        match (&before, new.cas) {
            (None, Some(_)) => return Stored::NotFound,
            (Some(item), Some(cas)) if cas != item.cas => {
                if !new.invalidate || cas >= item.cas {
                    return Stored::Exists;
                }
                stale = true;
            }
            (Some(_), None) if new.mode == Mode::Add => return Stored::No,
            (None, None) if !matches!(new.mode, Mode::Set | Mode::Add) => return Stored::No,
            _ => {}
        }
        let mut item = Item {
            flags: new.flags,
            data: new.data.to_vec(),
            cas: 0,
            expires_at: new.expires_at,
            seen_at: self.now,
            hit: false,
            stale,
            won: false,
            base64: new.base64,
        };
        if let (Some(before), Mode::Append | Mode::Prepend) = (before, new.mode) {
            let parts = match new.mode {
                Mode::Append => [&before.data[..], new.data],
                _ => [new.data, &before.data[..]],
            };
            item = Item { data: parts.concat(), flags: before.flags, expires_at: before.expires_at, ..item };
            if item.data.len() + key.len() > ITEM_BYTES_MAX {
                return Stored::TooLarge;
            }
        }
        item.cas = self.next_cas();
        self.items.insert(key, item);
        Stored::Yes
    }

    /// Adds to a number or subtracts from it; nothing if it is none.
    fn count(&mut self, key: &[u8], delta: u64, down: bool) -> Option<u64> {
        let cas = self.next_cas();
        let item = self.live(key)?;
        let text = std::str::from_utf8(&item.data).ok()?;
        let number: u64 = text.trim_matches([' ', '\t', '\r', '\n']).parse().ok()?;
        let number = if down { number.saturating_sub(delta) } else { number.wrapping_add(delta) };
        item.data = number.to_string().into_bytes();
        item.cas = cas;
        Some(number)
    }
}
