//! A request as positions in the bytes that came.
//! Owns: nothing. Knows nothing of: where it came from, where it goes.

use super::Protocol;
use super::commands::{Command, Keys};
use super::reply::Expect;
use super::{keys, memcache, resp};

/// How large a request may be. Each limit is answered in the protocol's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one request, first to last. The default holds Redis' largest value (512 MB) and some more.
    pub request_bytes_max: usize,
    /// Arguments of one request. The default was Redis' own until it took as many as a number can count.
    pub arguments_max: u32,
    /// Bytes of a line that is a request by itself (inline RESP, memcached's command lines): Redis takes 64 KB.
    pub line_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { request_bytes_max: (512 << 20) + (1 << 20), arguments_max: 1 << 20, line_bytes_max: 64 << 10 }
    }
}

impl Limits {
    /// For a client that has yet to say its password: enough for AUTH and HELLO, nothing to fill memory with.
    pub const STRANGER: Limits = Limits { request_bytes_max: 16 << 10, arguments_max: 16, line_bytes_max: 4 << 10 };
}

/// One complete request. Lives as long as the inbox it was found in is not moved.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The whole request, first to last byte. In RESP it is always an array of bulk strings in canonical form, also
    /// when the client wrote an inline command.
    pub frame: &'a [u8],
    /// Forwarding sends `frame` as it is. If not (memcached `noreply`, `q` and odd spellings), the protocol's
    /// `rewrite` says what is sent instead, and exactly one reply comes to that.
    pub verbatim: bool,
    /// The row of the command table. A client's spelling stays in `frame`.
    pub command: &'static Command,
    /// Arguments, the command's own name(s) included.
    pub args: u32,
    /// The first key; `None` for keyless commands, and where the datastore will find no key either and answer with an
    /// error or run a script without keys: then any datastore may say so, ours for instance.
    /// Bytes of `frame`, or of the decoder (a memcached key sent in base64).
    pub key: Option<&'a [u8]>,
    /// No reply is expected (memcached `noreply` and the meta commands' `q` are the only cases; `q` still may reply).
    pub quiet: bool,
    pub protocol: Protocol,
}

impl<'a> Request<'a> {
    /// The arguments in order, the command's own name(s) first.
    pub fn arguments(&self) -> Arguments<'a> {
        match self.protocol {
            Protocol::Resp => Arguments::Resp(resp::arguments::Arguments::of(self.frame)),
            Protocol::Memcache => Arguments::Memcache(memcache::Words::of(self.frame)),
        }
    }

    pub fn argument(&self, index: usize) -> Option<&'a [u8]> {
        self.arguments().nth(index)
    }

    /// Which kind of reply comes to it.
    pub fn expect(&self) -> Expect {
        match self.protocol {
            Protocol::Resp => Expect::Resp,
            Protocol::Memcache => memcache::reply::expect_of(self),
        }
    }

    /// Every key, destinations included, in the order of the arguments.
    pub fn keys(&self) -> KeysOf<'a> {
        match self.command.keys {
            Keys::None | Keys::At(_) => KeysOf::One(self.key),
            keys => keys::walk(keys, self.args as usize, self.arguments()).map_or(KeysOf::One(None), KeysOf::Many),
        }
    }

    /// True when the request names more than one key, be they alike or not.
    pub fn has_many_keys(&self) -> bool {
        match self.command.keys {
            Keys::None | Keys::At(_) => false,
            Keys::Range { first, but_last, step } => {
                self.args as usize > usize::from(first) + usize::from(step) + usize::from(but_last)
            }
            _ => self.keys().nth(1).is_some(),
        }
    }
}

/// What a decoder found at the head of an inbox.
#[derive(Debug)]
pub enum Decoded<'a> {
    /// A complete request. The inbox is to be advanced by `consumed`, which is not always the length of the
    /// request's frame: an inline command was rewritten, and blank lines before a request count.
    Request { consumed: usize, request: Request<'a> },
    /// Not all here yet. Nothing more can be known before the inbox holds `need` bytes (> what it holds now).
    Incomplete { need: usize },
    /// A complete frame that cannot be served: answer `error` in its turn and go on behind it.
    /// `error` is a whole reply in the client's protocol. `quiet` ones are not answered.
    Refused { consumed: usize, error: Vec<u8> },
    /// The stream's place is lost. Answer `error` in its turn (it may be empty), then close.
    Broken { error: Vec<u8> },
    /// Blank input that wants no answer (an empty inline line): advance and go on.
    Skip { consumed: usize },
}

/// See [`Request::arguments`].
#[derive(Clone, Debug)]
pub enum Arguments<'a> {
    Resp(resp::arguments::Arguments<'a>),
    Memcache(memcache::Words<'a>),
}

impl<'a> Iterator for Arguments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self {
            Arguments::Resp(arguments) => arguments.next(),
            Arguments::Memcache(words) => words.next(),
        }
    }
}

/// See [`Request::keys`].
#[derive(Clone, Debug)]
pub enum KeysOf<'a> {
    One(Option<&'a [u8]>),
    Many(keys::Walk<Arguments<'a>>),
}

impl<'a> Iterator for KeysOf<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self {
            KeysOf::One(key) => key.take(),
            KeysOf::Many(walk) => walk.next(),
        }
    }
}
