//! What a command says when it does nothing.

use std::borrow::Cow;

/// The text behind the `-`, with its code.
#[derive(Debug, PartialEq, Eq)]
pub struct Fail(pub Cow<'static, str>);

pub type Outcome<T = ()> = Result<T, Fail>;

impl Fail {
    pub const fn of(text: &'static str) -> Fail {
        Fail(Cow::Borrowed(text))
    }

    pub fn said(text: String) -> Fail {
        Fail(Cow::Owned(text))
    }

    pub fn arity(name: &str) -> Fail {
        Fail::said(format!("ERR wrong number of arguments for '{name}' command"))
    }

    pub fn expire_time(name: &str) -> Fail {
        Fail::said(format!("ERR invalid expire time in '{name}' command"))
    }
}

pub const WRONG_TYPE: Fail = Fail::of("WRONGTYPE Operation against a key holding the wrong kind of value");
pub const SYNTAX: Fail = Fail::of("ERR syntax error");
pub const NOT_INTEGER: Fail = Fail::of("ERR value is not an integer or out of range");
pub const NOT_FLOAT: Fail = Fail::of("ERR value is not a valid float");
pub const NOT_POSITIVE: Fail = Fail::of("ERR value is out of range, must be positive");
pub const OUT_OF_RANGE: Fail = Fail::of("ERR value is out of range");
pub const NO_KEY: Fail = Fail::of("ERR no such key");
pub const OVERFLOW: Fail = Fail::of("ERR increment or decrement would overflow");
pub const TOO_LONG: Fail = Fail::of("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
pub const NOT_A_NUMBER: Fail = Fail::of("ERR increment would produce NaN or Infinity");
