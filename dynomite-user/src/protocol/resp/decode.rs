//! Bytes from a client → requests.
//! Owns: the place in a frame that is still arriving. Knows nothing of: sessions, owners, sockets.
//!
//! A frame is looked at once, however it is cut: what was walked stays walked. Everything that the datastore would
//! take differently from us (`$03`, a missing CR) is refused here, so that it never desynchronises a shared connection.
//! Next on the walk: `coordinator`, with a [`Request`]; `session` for what the node answers itself.

use super::arguments::Arguments;
use super::commands::{COMMANDS, CONTAINERS, find};
use super::find::{Found, lookup, lookup_second};
use super::head::{Head, number};
use super::{inline, refuse};
use crate::protocol::Protocol;
use crate::protocol::commands::{Command, Keys, Routing};
use crate::protocol::keys;
use crate::protocol::request::{Decoded, Limits, Request};

/// The longest argument, as Redis has it (`proto-max-bulk-len`).
const ARGUMENT_BYTES_MAX: i64 = 512 << 20;

/// One client's place in its input. Small: there is one for every idle client.
#[derive(Debug, Default)]
pub struct Decoder {
    /// How much of the frame at the inbox' head is done with: it ends in front of an argument (or, in an inline
    /// command, anywhere in the line). 0 between frames.
    at: usize,
    /// Arguments of the frame, and how many of them are to come.
    args: u32,
    left: u32,
    /// An inline command as the array that the datastore gets to see.
    inline: Vec<u8>,
}

/// Larger buffers for inline commands are given back.
const INLINE_KEPT_BYTES: usize = 4 << 10;

/// Where a walk over an inbox ended.
enum Walked {
    /// The frame ends before this byte.
    Whole(usize),
    Incomplete(usize),
    /// `*0` and negative counts are no request and get no answer.
    Nothing(usize),
    Broken(Vec<u8>),
}

impl Decoder {
    /// Looks for one request at the head of `inbox`, which begins where the last one ended.
    #[inline]
    pub fn decode<'a>(&'a mut self, inbox: &'a [u8], limits: &Limits) -> Decoded<'a> {
        match inbox.first() {
            Some(b'*') => {}
            Some(_) => return self.line(inbox, limits),
            None => return Decoded::Incomplete { need: 1 },
        }
        match self.walk(inbox, limits) {
            Walked::Whole(len) => {
                self.at = 0;
                understand(&inbox[..len], self.args, len)
            }
            Walked::Incomplete(need) => Decoded::Incomplete { need },
            Walked::Nothing(consumed) => Decoded::Skip { consumed },
            Walked::Broken(error) => Decoded::Broken { error },
        }
    }

    #[inline]
    fn walk(&mut self, inbox: &[u8], limits: &Limits) -> Walked {
        let (mut at, mut left) = (self.at, self.left);
        if at == 0 {
            match number(inbox, 1) {
                Head::Number { value, next } if value <= 0 => return Walked::Nothing(next),
                Head::Number { value, next } if value <= i64::from(limits.arguments_max) => {
                    (at, left) = (next, value as u32);
                    self.args = left;
                }
                Head::Number { value, .. } => return Walked::Broken(refuse::too_many_arguments(value, limits)),
                Head::Incomplete => return Walked::Incomplete(inbox.len() + 1),
                Head::Invalid => return Walked::Broken(refuse::protocol("invalid multibulk length")),
            }
        }
        let need = loop {
            if left == 0 {
                return Walked::Whole(at);
            }
            match inbox.get(at) {
                Some(b'$') => {}
                Some(&byte) => return Walked::Broken(refuse::not_a_bulk(byte)),
                None => break inbox.len() + 1,
            }
            let (len, start) = match number(inbox, at + 1) {
                Head::Number { value: value @ 0..=ARGUMENT_BYTES_MAX, next } => (value as usize, next),
                Head::Incomplete => break inbox.len() + 1,
                Head::Number { .. } | Head::Invalid => return Walked::Broken(refuse::protocol("invalid bulk length")),
            };
            let end = start + len + 2;
            match inbox.get(start + len..end) {
                Some(b"\r\n") if end <= limits.request_bytes_max => {}
                Some(b"\r\n") => return Walked::Broken(refuse::too_long(limits)),
                Some(_) => return Walked::Broken(refuse::protocol("expected CR LF behind an argument")),
                None if end <= limits.request_bytes_max => break end,
                None => return Walked::Broken(refuse::too_long(limits)),
            }
            at = end;
            left -= 1;
        };
        (self.at, self.left) = (at, left);
        Walked::Incomplete(need)
    }

    /// An inline command: one line of words.
    #[inline(never)]
    fn line<'a>(&'a mut self, inbox: &'a [u8], limits: &Limits) -> Decoded<'a> {
        let line_max = limits.line_bytes_max.min(limits.request_bytes_max);
        let Some(len) = memchr::memchr(b'\n', &inbox[self.at..]).map(|len| self.at + len) else {
            if inbox.len() > line_max {
                return Decoded::Broken { error: refuse::too_long_line() };
            }
            self.at = inbox.len();
            return Decoded::Incomplete { need: inbox.len() + 1 };
        };
        self.at = 0;
        if len > line_max {
            return Decoded::Broken { error: refuse::too_long_line() };
        }
        if self.inline.capacity() > INLINE_KEPT_BYTES {
            self.inline = Vec::new();
        }
        let line = inbox[..len].strip_suffix(b"\r").unwrap_or(&inbox[..len]);
        match inline::to_array(line, &mut self.inline) {
            Ok(0) => Decoded::Skip { consumed: len + 1 },
            Ok(args) if args > limits.arguments_max => {
                Decoded::Broken { error: refuse::too_many_arguments(args.into(), limits) }
            }
            Ok(args) => understand(&self.inline, args, len + 1),
            Err(inline::Unbalanced) => Decoded::Broken { error: refuse::protocol("unbalanced quotes in request") },
        }
    }
}

/// A whole, canonical frame → what it asks for.
#[inline]
fn understand(frame: &[u8], args: u32, consumed: usize) -> Decoded<'_> {
    match request(frame, args) {
        Ok(request) => Decoded::Request { consumed, request },
        Err(Unserved::Refused(error)) => Decoded::Refused { consumed, error },
        Err(Unserved::NotRedis) => Decoded::Broken { error: Vec::new() },
    }
}

enum Unserved {
    Refused(Vec<u8>),
    /// A browser was made to talk to us. It gets nothing at all, lest somebody else's page reads it.
    NotRedis,
}

#[inline]
fn request(frame: &[u8], args: u32) -> Result<Request<'_>, Unserved> {
    let mut arguments = Arguments::of(frame);
    let name = arguments.next().unwrap_or_default();
    let command = match lookup(name) {
        Some(Found::Row(row)) => row,
        Some(Found::Container(container)) => subcommand(container, args, arguments.clone().next())?,
        None => return Err(unknown(name, arguments)),
    };
    if !takes(command, args) {
        return Err(Unserved::Refused(refuse::wrong_arguments(command.name)));
    }
    if let Keys::At(1) = command.keys {
        return Ok(Request {
            frame,
            command,
            args,
            key: arguments.next(),
            quiet: false,
            verbatim: true,
            protocol: Protocol::Resp,
        });
    }
    special(frame, args, command)
}

#[inline]
fn takes(command: &Command, args: u32) -> bool {
    let arity = i64::from(command.arity);
    if arity >= 0 { i64::from(args) == arity } else { i64::from(args) >= -arity }
}

/// Everything but one key behind the name.
fn special<'a>(frame: &'a [u8], args: u32, mut command: &'static Command) -> Result<Request<'a>, Unserved> {
    if let Routing::Refused(why) = command.routing {
        return Err(Unserved::Refused(refuse::not_served(command.name, why)));
    }
    let arguments = Arguments::of(frame);
    match command.keys {
        Keys::FirstAndStore { options } if keys::store(options.into(), arguments.clone()).is_some() => {
            command = turned(command);
        }
        Keys::Streams if keys::stream_options(arguments.clone()).blocks => command = turned(command),
        Keys::Range { first, but_last, step } => {
            let keyed = args.saturating_sub(u32::from(first) + u32::from(but_last));
            if !keyed.is_multiple_of(step.into()) {
                return Err(Unserved::Refused(refuse::wrong_arguments(command.name)));
            }
        }
        _ => {}
    }
    let key = keys::walk(command.keys, args as usize, arguments).and_then(|mut keys| keys.next());
    Ok(Request { frame, command, args, key, quiet: false, verbatim: true, protocol: Protocol::Resp })
}

/// What an option makes of a command stands behind it in the table.
fn turned(command: &Command) -> &'static Command {
    &COMMANDS[usize::from(command.verb.0) + 1]
}

#[inline(never)]
fn subcommand(container: usize, args: u32, second: Option<&[u8]>) -> Result<&'static Command, Unserved> {
    let name = CONTAINERS[container];
    match second {
        Some(second) => {
            lookup_second(container, second).ok_or_else(|| Unserved::Refused(refuse::unknown_subcommand(name, second)))
        }
        None => find(name.as_bytes())
            .filter(|command| takes(command, args))
            .ok_or_else(|| Unserved::Refused(refuse::wrong_arguments(name))),
    }
}

#[inline(never)]
fn unknown(name: &[u8], arguments: Arguments<'_>) -> Unserved {
    if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
        return Unserved::NotRedis;
    }
    Unserved::Refused(refuse::unknown_command(name, arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `input` in pieces that end at `cuts`, and tells in words what came of it.
    fn told(input: &[u8], cuts: &[usize], limits: &Limits) -> String {
        let (mut decoder, mut told, mut at) = (Decoder::default(), Vec::new(), 0);
        let mut needed = 0;
        for &held in cuts.iter().chain([&input.len()]) {
            while at < held {
                let inbox = &input[at..held];
                let said = match decoder.decode(inbox, limits) {
                    Decoded::Request { consumed, request } => {
                        at += consumed;
                        assert!(std::mem::take(&mut needed) <= consumed);
                        let arguments: Vec<_> =
                            request.arguments().map(<[u8]>::escape_ascii).map(|a| a.to_string()).collect();
                        assert_eq!(arguments.len(), request.args as usize);
                        let keys: Vec<_> = request.keys().map(<[u8]>::escape_ascii).map(|a| a.to_string()).collect();
                        assert_eq!(request.key, request.keys().next());
                        assert_eq!(request.has_many_keys(), keys.len() > 1);
                        format!("{}({})[{}]", request.command.name, arguments[1..].join(","), keys.join(","))
                    }
                    Decoded::Incomplete { need } => {
                        assert!(need > inbox.len(), "{need}");
                        needed = need;
                        break;
                    }
                    Decoded::Refused { consumed, error } => {
                        (at, needed) = (at + consumed, 0);
                        error.trim_ascii_end().escape_ascii().to_string()
                    }
                    Decoded::Broken { error } => {
                        told.push(format!("!{}", error.trim_ascii_end().escape_ascii()));
                        return told.join(" ");
                    }
                    Decoded::Skip { consumed } => {
                        assert!(consumed > 0);
                        (at, needed) = (at + consumed, 0);
                        continue;
                    }
                };
                told.push(said);
            }
        }
        if at < input.len() {
            told.push("…".into());
        }
        told.join(" ")
    }

    #[track_caller]
    fn check(input: &str, expected: &str) {
        assert_eq!(told(input.as_bytes(), &[], &Limits::default()), expected, "{input:?}");
    }

    #[test]
    fn arrays() {
        check("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "get(k)[k]");
        check("*1\r\n$4\r\nping\r\n*1\r\n$4\r\nPING\r\n", "ping()[] ping()[]");
        check("*3\r\n$3\r\nset\r\n$0\r\n\r\n$0\r\n\r\n", "set(,)[]");
        check("*0\r\n*-1\r\n*-9\r\n*1\r\n$4\r\nPING\r\n", "ping()[]");
        check("*3\r\n$6\r\nConfig\r\n$3\r\ngeT\r\n$1\r\n*\r\n", "config get(geT,*)[]");
        check("*2\r\n$3\r\nGET\r\n$1\r\n", "…");
    }

    #[test]
    fn inline_commands_become_arrays() {
        check("\r\n\n  \r\nPING\r\nget  k\nset k \"a\\x00 b\"\r\n", "ping()[] get(k)[k] set(k,a\\x00 b)[k]");
        check("ECHO \"a\r\n", "!-ERR Protocol error: unbalanced quotes in request");
        check("PING", "…");
        check(&"x".repeat((64 << 10) + 1), "!-ERR Protocol error: too big inline request");
        check("POST / HTTP/1.1\r\nHost: x\r\n\r\n", "!");
        let mut decoder = Decoder::default();
        let Decoded::Request { consumed, request } = decoder.decode(b"get k\r\nrest", &Limits::default()) else {
            panic!()
        };
        assert_eq!((consumed, request.frame), (7, &b"*2\r\n$3\r\nget\r\n$1\r\nk\r\n"[..]));
    }

    #[test]
    fn what_redis_refuses_is_refused_in_its_words() {
        check(
            "foo a b\r\nping\r\n",
            "-ERR unknown command \\'foo\\', with args beginning with: \\'a\\' \\'b\\' ping()[]",
        );
        check("get\r\n", "-ERR wrong number of arguments for \\'get\\' command");
        check("get a b\r\n", "-ERR wrong number of arguments for \\'get\\' command");
        check("mset a 1 b\r\n", "-ERR wrong number of arguments for \\'mset\\' command");
        check("CONFIG\r\n", "-ERR wrong number of arguments for \\'config\\' command");
        check("CONFIG GET\r\n", "-ERR wrong number of arguments for \\'config|get\\' command");
        check("CONFIG FOO\r\n", "-ERR unknown subcommand \\'FOO\\'. Try CONFIG HELP.");
        check("cluster slots\r\n", "-ERR This instance has cluster support disabled: \\'cluster|slots\\'");
        check("*1\r\n$10\r\nconfig get\r\n", "-ERR unknown command \\'config get\\', with args beginning with:");
        check("*1\r\n$0\r\n\r\n", "-ERR unknown command \\'\\', with args beginning with:");
        check("command\r\ncommand count\r\n", "command()[] command count(count)[]");
    }

    #[test]
    fn lost_places() {
        for head in ["*03", "*+3", "*-0", "*", "* 1", "*2147483648", "*1x", "*x"] {
            check(&format!("{head}\r\n$4\r\nPING\r\n"), "!-ERR Protocol error: invalid multibulk length");
        }
        for head in ["$04", "$-1", "$+4", "$", "$4 ", "$536870913", "$99999999999999999999999"] {
            check(&format!("*1\r\n{head}\r\nPING\r\n"), "!-ERR Protocol error: invalid bulk length");
        }
        check("*1\r\n+4\r\nPING", "!-ERR Protocol error: expected \\'$\\', got \\'+\\'");
        check("*1\r\n\r\n", "!-ERR Protocol error: expected \\'$\\', got \\' \\'");
        check("*1\r\n$4\r\nPINGxx", "!-ERR Protocol error: expected CR LF behind an argument");
        check("*1\n$4\nPING\n", "!-ERR Protocol error: invalid multibulk length");
    }

    #[test]
    fn limits_are_told() {
        let limits = Limits { request_bytes_max: 64, arguments_max: 4, ..Limits::default() };
        let check =
            |input: &str, expected: &str| assert_eq!(told(input.as_bytes(), &[], &limits), expected, "{input:?}");
        let of_a_limit = [refuse::too_long(&limits), refuse::too_many_arguments(5, &limits), refuse::too_long_line()];
        assert!(of_a_limit.iter().all(|error| refuse::is_of_a_limit(error)));
        assert!(!refuse::is_of_a_limit(&refuse::unknown_command(b"too big inline request", std::iter::empty())));
        check("*5\r\n", "!-ERR Protocol error: 5 arguments in one request, the limit is 4");
        check("del a b c d\r\n", "!-ERR Protocol error: 5 arguments in one request, the limit is 4");
        check("*2\r\n$3\r\nGET\r\n$60\r\n", "!-ERR Protocol error: a request longer than the limit of 64 bytes");
        check(&format!("get {}", "k".repeat(61)), "!-ERR Protocol error: too big inline request");
        check("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "get(k)[k]");
    }

    #[test]
    fn options_that_make_another_command() {
        check("sort k\r\nsort k store d\r\n", "sort(k)[k] sort store(k,store,d)[k,d]");
        check("sort k get store\r\n", "sort(k,get,store)[k]");
        check("xread streams a b 0 0\r\n", "xread(streams,a,b,0,0)[a,b]");
        check("xread block 1 streams a 0\r\n", "xread block(block,1,streams,a,0)[a]");
        check("georadius k 1 2 3 km store d\r\n", "georadius store(k,1,2,3,km,store,d)[k,d]");
        for name in ["sort", "xread", "xreadgroup", "georadius", "georadiusbymember"] {
            let option = if name.starts_with('x') { "block" } else { "store" };
            assert_eq!(turned(find(name.as_bytes()).unwrap()).name, format!("{name} {option}"));
        }
    }

    #[test]
    fn nothing_that_is_refused_gets_through() {
        for row in COMMANDS.iter().filter(|row| matches!(row.routing, Routing::Refused(_))) {
            let words = usize::from(row.arity.unsigned_abs()) - row.name.split(' ').count();
            let line = format!("{}{}\r\n", row.name, " x".repeat(words));
            let answer = told(line.as_bytes(), &[], &Limits::default());
            assert!(
                answer.starts_with("-ERR ") && answer.ends_with(&format!(": \\'{}\\'", row.name.replace(' ', "|"))),
                "{answer}"
            );
        }
    }

    #[test]
    fn keys_wherever_they_are() {
        check("eval x 2 a b c\r\n", "eval(x,2,a,b,c)[a,b]");
        check("eval x 0\r\n", "eval(x,0)[]");
        check("zunionstore d 2 a b\r\n", "zunionstore(d,2,a,b)[d,a,b]");
        check("mset a 1 b 2\r\nmget a b\r\nmget a\r\n", "mset(a,1,b,2)[a,b] mget(a,b)[a,b] mget(a)[a]");
        check("object encoding k\r\n", "object encoding(encoding,k)[k]");
    }

    /// A pipeline of many shapes, some refused, none that breaks the stream.
    const PIPELINE: &str = "*2\r\n$3\r\nGET\r\n$10\r\n0123456789\r\n\r\nset k 'v w'\r\n*0\r\n*3\r\n$4\r\nMGET\r\n$0\r\n\r\n$1\r\nb\r\n\
        *1\r\n$3\r\nFOO\r\nPING\n*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$1\r\n*\r\n*3\r\n$3\r\nset\r\n$2\r\n\r\n\r\n$4\r\n\r\n*1\r\n";

    #[test]
    fn every_single_and_double_cut_decodes_the_same() {
        let limits = Limits::default();
        let whole = told(PIPELINE.as_bytes(), &[], &limits);
        assert_eq!(whole.matches("](").count() + whole.matches(")[").count(), 6, "{whole}");
        for first in 0..PIPELINE.len() {
            for second in first..PIPELINE.len() {
                assert_eq!(told(PIPELINE.as_bytes(), &[first, second], &limits), whole, "cut at {first} and {second}");
            }
        }
        let everywhere: Vec<usize> = (0..PIPELINE.len()).collect();
        assert_eq!(told(PIPELINE.as_bytes(), &everywhere, &limits), whole);
    }

    #[test]
    fn a_long_request_in_pieces_is_walked_once() {
        let mut input = b"*1000001\r\n$4\r\nMSET\r\n".to_vec();
        for at in 0..1_000_000 {
            crate::protocol::resp::encode::bulk(format!("{at:08}").as_bytes(), &mut input);
        }
        let (mut decoder, mut calls) = (Decoder::default(), 0);
        for held in (0..input.len()).step_by(4 << 10).skip(1) {
            calls += 1;
            let Decoded::Incomplete { need } = decoder.decode(&input[..held], &Limits::default()) else { panic!() };
            assert!(need > held && need <= input.len());
            // What is done with reaches up to the last whole argument: nothing before it is looked at again.
            assert!(decoder.at + 16 > held, "{} of {held}", decoder.at);
        }
        assert!(calls > 3000);
        let Decoded::Request { request, .. } = decoder.decode(&input, &Limits::default()) else { panic!() };
        assert_eq!(request.keys().count(), 500_000);
    }

    #[test]
    fn a_long_value_says_what_it_needs() {
        let mut decoder = Decoder::default();
        let head = b"*3\r\n$3\r\nset\r\n$1\r\nk\r\n$536870912\r\nabc";
        let Decoded::Incomplete { need } = decoder.decode(head, &Limits::default()) else { panic!() };
        assert_eq!(need, head.len() - 3 + (512 << 20) + 2);
    }

    use proptest::prelude::*;

    /// Bytes that look enough like RESP to get somewhere.
    fn lookalike() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            Just("*2\r\n".to_string()),
            Just("*1\r\n".into()),
            Just("$3\r\n".into()),
            Just("GET\r\n".into()),
            Just("\r\n".into()),
            Just("$-1\r\n".into()),
            Just("*0\r\n".into()),
            Just("'".into()),
            Just("\"".into()),
            Just("xread ".into()),
            Just("streams ".into()),
            Just("eval s 1 ".into()),
            Just("sort k store ".into()),
            "[ -~]{0,6}",
            "[0-9]{1,4}",
            "\\PC{0,3}",
        ];
        prop::collection::vec(word, 0..24).prop_map(|words| words.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn any_cut_of_anything_decodes_the_same(input in lookalike(), cuts in prop::collection::vec(0usize..200, 0..6)) {
            let limits = Limits::default();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (input.len() + 1)).collect();
            cuts.sort_unstable();
            prop_assert_eq!(told(&input, &cuts, &limits), told(&input, &[], &limits));
        }

        #[test]
        fn arbitrary_bytes_never_panic(input in prop::collection::vec(any::<u8>(), 0..200)) {
            told(&input, &[], &Limits::STRANGER);
        }
    }
}
