//! What a client is told about a request that is not served.
//! Owns: the texts. Where Redis has one it is Redis' text: clients match on them.

use memchr::memmem;

use crate::protocol::request::Limits;

/// Redis shows this many bytes of a name, and of all arguments together.
const SHOWN_BYTES: usize = 128;

pub fn unknown_command<'a>(name: &[u8], arguments: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut shown = Vec::with_capacity(SHOWN_BYTES);
    for argument in arguments {
        if shown.len() >= SHOWN_BYTES {
            break;
        }
        let room = SHOWN_BYTES - shown.len();
        shown.push(b'\'');
        shown.extend_from_slice(text(argument, room));
        shown.extend_from_slice(b"' ");
    }
    error(&[b"ERR unknown command '", text(name, SHOWN_BYTES), b"', with args beginning with: ", &shown])
}

pub fn unknown_subcommand(container: &str, second: &[u8]) -> Vec<u8> {
    let container = container.to_uppercase();
    let second = text(second, SHOWN_BYTES);
    error(&[b"ERR unknown subcommand '", second, b"'. Try ", container.as_bytes(), b" HELP."])
}

pub fn wrong_arguments(name: &str) -> Vec<u8> {
    error(&[b"ERR wrong number of arguments for '", name.replace(' ', "|").as_bytes(), b"' command"])
}

pub fn not_served(name: &str, why: &str) -> Vec<u8> {
    error(&[b"ERR ", why.as_bytes(), b": '", name.replace(' ', "|").as_bytes(), b"'"])
}

pub fn protocol(what: &str) -> Vec<u8> {
    error(&[b"ERR Protocol error: ", what.as_bytes()])
}

pub fn not_a_bulk(byte: u8) -> Vec<u8> {
    error(&[b"ERR Protocol error: expected '$', got '", &[byte], b"'"])
}

pub fn too_many_arguments(args: i64, limits: &Limits) -> Vec<u8> {
    if i32::try_from(args).is_err() {
        return protocol("invalid multibulk length");
    }
    protocol(&format!("{args}{MANY_ARGUMENTS}{}", limits.arguments_max))
}

pub fn too_long_line() -> Vec<u8> {
    protocol(LONG_LINE)
}

pub fn too_long(limits: &Limits) -> Vec<u8> {
    protocol(&format!("{LONG}{} bytes", limits.request_bytes_max))
}

const MANY_ARGUMENTS: &str = " arguments in one request, the limit is ";
const LONG_LINE: &str = "too big inline request";
const LONG: &str = "a request longer than the limit of ";

/// Is this one of the three above?
pub fn is_of_a_limit(error: &[u8]) -> bool {
    error.starts_with(b"-ERR Protocol error: ")
        && [MANY_ARGUMENTS, LONG_LINE, LONG].iter().any(|words| memmem::find(error, words.as_bytes()).is_some())
}

/// Up to `len` bytes of what a client sent; as in Redis it ends at a zero byte.
fn text(bytes: &[u8], len: usize) -> &[u8] {
    let bytes = &bytes[..bytes.len().min(len)];
    &bytes[..memchr::memchr(0, bytes).unwrap_or(bytes.len())]
}

/// An error reply. Line ends inside it become blanks.
fn error(parts: &[&[u8]]) -> Vec<u8> {
    let mut reply = Vec::with_capacity(64);
    reply.push(b'-');
    for part in parts {
        reply.extend(part.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    }
    reply.extend_from_slice(b"\r\n");
    reply
}
