//! A request as positions in the bytes that came.
//! Owns: nothing. Knows nothing of: where it came from, where it goes.

use super::commands::Command;

/// How large a request may be. Each limit is answered in the protocol's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one request, first to last. The default holds Redis' largest value (512 MB) and some more.
    pub request_bytes_max: usize,
    /// Arguments of one request. The default is Redis' own.
    pub arguments_max: u32,
    /// Bytes of a line that is a request by itself (inline RESP, memcached's command lines): Redis takes 64 KB.
    pub line_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { request_bytes_max: (512 << 20) + (1 << 20), arguments_max: 1 << 20, line_bytes_max: 64 << 10 }
    }
}

/// One complete request. Lives as long as the inbox it was found in is not moved.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The whole request, first to last byte.
    pub frame: &'a [u8],
    /// Forwarding sends `frame` as it is. If not (inline RESP; memcached `noreply`, `q` and odd spellings), the protocol's
    /// `rewrite` says what is sent instead, and exactly one reply comes to that.
    pub verbatim: bool,
    /// The row of the command table. A client's spelling stays in `frame`.
    pub command: &'static Command,
    /// Arguments, the command's own name(s) included.
    pub args: u32,
    /// The first key; `None` for keyless commands. Bytes of `frame`, or of the decoder (a memcached key sent in base64).
    pub key: Option<&'a [u8]>,
    /// No reply is expected (memcached `noreply` and the meta commands' `q` are the only cases; `q` still may reply).
    pub quiet: bool,
    pub protocol: super::Protocol,
}

/// What a decoder found at the head of an inbox.
#[derive(Debug)]
pub enum Decoded<'a> {
    /// A complete request. The inbox is to be advanced by `consumed`
    /// (≥ `request.frame.len()`: blanks and empty lines before it count).
    Request { consumed: usize, request: Request<'a> },
    /// Not all here yet. Nothing more can be known before the inbox holds `need` bytes (> what it holds now).
    Incomplete { need: usize },
    /// A complete frame that cannot be served: answer `error` in its turn and go on behind it.
    /// `error` is a whole reply in the client's protocol. `quiet` ones are not answered.
    Refused { consumed: usize, error: Vec<u8> },
    /// The stream's place is lost. Answer `error` in its turn, then close.
    Broken { error: Vec<u8> },
    /// Blank input that wants no answer (an empty inline line): advance and go on.
    Skip { consumed: usize },
}
