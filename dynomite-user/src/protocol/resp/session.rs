//! What one client said about itself, and the commands that this node answers without a datastore.
//! Owns: a client's protocol version, name and whether it said the password. Knows nothing of: sockets, other clients,
//! the clock; what is needed of them comes in as `NodeFacts`. Texts are those of Redis 7.0, which clients match on.

use std::fmt::Display;
use std::io::Write;

use super::describe;
use super::encode::{self, Version};
use super::head::canonical;
use crate::protocol::commands::Command;
use crate::protocol::request::{Arguments, Request};

/// The version of Redis whose commands we have: clients ask in HELLO what they may use.
pub const REDIS_VERSION: &str = "7.0.15";

/// One client, seen by the commands about clients.
#[derive(Clone, Debug)]
pub struct Session {
    id: u64,
    version: Version,
    is_authenticated: bool,
    name: Box<[u8]>,
    /// What CLIENT SETINFO said. Boxed: many clients never say it, and they all pay for the room.
    library: Option<Box<Library>>,
    no_evict: bool,
    no_touch: bool,
}

#[derive(Clone, Debug, Default)]
struct Library {
    name: Box<[u8]>,
    version: Box<[u8]>,
}

/// What the node knows at the moment of a request.
#[derive(Clone, Copy, Debug)]
pub struct NodeFacts<'a> {
    /// The password that clients must say, if they must.
    pub requirepass: Option<&'a str>,
    /// Microseconds since 1970.
    pub epoch_micros: u64,
}

/// What the shell knows about one client, for `Session::describe`.
pub struct ClientFacts<'a> {
    pub address: &'a dyn Display,
    pub local_address: &'a dyn Display,
    pub age_seconds: u64,
    pub idle_seconds: u64,
    pub is_subscribed: bool,
    pub is_in_transaction: bool,
}

/// What became of a request.
#[derive(Debug)]
pub enum Answer<'a> {
    /// The reply is written.
    Said,
    /// The reply is written; close behind it.
    Close,
    /// The reply is written; whatever state the client had elsewhere (transaction, subscriptions, level) is to go.
    Reset,
    /// Nothing is written. The client wants this consistency level (`dyno_config:conn_consistency`): say `+OK`, or an
    /// error if there is no such level.
    Level(&'a [u8]),
    /// Nothing is written. Have every client that the listing wants `describe` itself, and say the text with `tell`.
    Clients(Listing<'a>),
}

/// Which clients are asked for.
#[derive(Clone, Debug)]
pub enum Listing<'a> {
    Own,
    All,
    Normal,
    Subscribed,
    /// Kinds that never connect to us: replicas, masters.
    Nobody,
    Ids(Arguments<'a>),
}

impl Listing<'_> {
    pub fn wants(&self, asking: u64, id: u64, is_subscribed: bool) -> bool {
        match self {
            Listing::Own => id == asking,
            Listing::All => true,
            Listing::Normal => !is_subscribed,
            Listing::Subscribed => is_subscribed,
            Listing::Nobody => false,
            Listing::Ids(ids) => ids.clone().any(|text| canonical(text) == Some(id as i64)),
        }
    }
}

const NOAUTH: &str = "NOAUTH Authentication required.";
const WRONGPASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const SYNTAX: &str = "ERR syntax error";
const NOT_INTEGER: &str = "ERR value is not an integer or out of range";
const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

impl Session {
    /// `id` is unique among the clients of this node, for as long as it runs.
    pub fn new(id: u64, requirepass: Option<&str>) -> Session {
        Session {
            id,
            version: Version::Resp2,
            is_authenticated: requirepass.is_none(),
            name: Box::default(),
            library: None,
            no_evict: false,
            no_touch: false,
        }
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn is_authenticated(&self) -> bool {
        self.is_authenticated
    }

    /// May it ask this? If not, the answer is `no_auth`. To be asked of every request before it goes anywhere.
    #[inline]
    pub fn admits(&self, command: &Command) -> bool {
        self.is_authenticated || matches!(command.name, "auth" | "hello" | "quit" | "reset")
    }

    pub fn no_auth(out: &mut Vec<u8>) {
        encode::error(NOAUTH, out);
    }

    /// Answers a command of `Routing::Node`.
    pub fn answer<'a>(&mut self, request: &Request<'a>, facts: &NodeFacts<'_>, out: &mut Vec<u8>) -> Answer<'a> {
        if !self.admits(request.command) {
            Session::no_auth(out);
            return Answer::Said;
        }
        let argument = |at| request.argument(at).unwrap_or_default();
        let version = self.version;
        match request.command.name {
            "ping" => match request.args {
                1 => encode::status("PONG", out),
                2 => encode::bulk(argument(1), out),
                _ => encode::error("ERR wrong number of arguments for 'ping' command", out),
            },
            "echo" => encode::bulk(argument(1), out),
            "select" => select(argument(1), out),
            "time" => {
                encode::array_head(2, out);
                encode::bulk((facts.epoch_micros / 1_000_000).to_string().as_bytes(), out);
                encode::bulk((facts.epoch_micros % 1_000_000).to_string().as_bytes(), out);
            }
            "hello" => self.hello(request, facts, out),
            "auth" => self.auth(request, facts, out),
            "quit" => {
                encode::status("OK", out);
                return Answer::Close;
            }
            "reset" => {
                *self = Session::new(self.id, facts.requirepass);
                encode::status("RESET", out);
                return Answer::Reset;
            }
            "readonly" | "readwrite" => encode::error("ERR This instance has cluster support disabled", out),
            "acl whoami" => encode::bulk(b"default", out),
            "dyno_config:conn_consistency" => return Answer::Level(argument(1)),
            "client id" => encode::integer(self.id as i64, out),
            "client getname" if self.name.is_empty() => encode::null(version, out),
            "client getname" => encode::bulk(&self.name, out),
            "client setname" => match is_name(argument(2)) {
                true => {
                    self.name = argument(2).into();
                    encode::status("OK", out);
                }
                false => encode::error(BAD_NAME, out),
            },
            "client setinfo" => self.set_info(argument(2), argument(3), out),
            "client no-evict" => switch(&mut self.no_evict, argument(2), out),
            "client no-touch" => switch(&mut self.no_touch, argument(2), out),
            "client reply" => match argument(2).to_ascii_lowercase().as_slice() {
                b"on" => encode::status("OK", out),
                b"off" | b"skip" => encode::error("ERR Not served by Dynomite: 'client|reply' other than ON", out),
                _ => encode::error(SYNTAX, out),
            },
            "client getredir" => encode::integer(-1, out),
            "client trackinginfo" => {
                encode::map_head(3, version, out);
                encode::bulk(b"flags", out);
                encode::set_head(1, version, out);
                encode::bulk(b"off", out);
                encode::bulk(b"redirect", out);
                encode::integer(-1, out);
                encode::bulk(b"prefixes", out);
                encode::array_head(0, out);
            }
            "client info" => return Answer::Clients(Listing::Own),
            "client list" => match listing(request) {
                Ok(listing) => return Answer::Clients(listing),
                Err(error) => encode::error(&error, out),
            },
            "client help" => describe::help("client", out),
            "command help" => describe::help("command", out),
            _ => describe::answer(request, version, out),
        }
        Answer::Said
    }

    fn hello(&mut self, request: &Request<'_>, facts: &NodeFacts<'_>, out: &mut Vec<u8>) {
        let mut arguments = request.arguments().skip(1);
        let version = match arguments.next().map(canonical) {
            None => self.version,
            Some(Some(2)) => Version::Resp2,
            Some(Some(3)) => Version::Resp3,
            Some(Some(_)) => return encode::error("NOPROTO unsupported protocol version", out),
            Some(None) => return encode::error("ERR Protocol version is not an integer or out of range", out),
        };
        let (mut login, mut name) = (None, None);
        while let Some(option) = arguments.next() {
            let is = |word: &str| option.eq_ignore_ascii_case(word.as_bytes());
            let mut next = || arguments.next();
            let value = match () {
                () if is("auth") => next().zip(next()).map(|pair| login = Some(pair)),
                () if is("setname") => next().map(|value| name = Some(value)),
                () => None,
            };
            if value.is_none() {
                let option = String::from_utf8_lossy(option).replace(['\r', '\n'], " ");
                return encode::error(&format!("ERR Syntax error in HELLO option '{option}'"), out);
            }
        }
        if let Some((user, password)) = login {
            if !is_right(user, password, facts) {
                return encode::error(WRONGPASS, out);
            }
            self.is_authenticated = true;
        }
        if !self.is_authenticated {
            return encode::error(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> \
                 <pass> option can be used to authenticate the client and select the RESP protocol version at the same \
                 time",
                out,
            );
        }
        if let Some(name) = name {
            if !is_name(name) {
                return encode::error(BAD_NAME, out);
            }
            self.name = name.into();
        }
        self.version = version;
        encode::map_head(7, version, out);
        for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
            encode::bulk(key.as_bytes(), out);
            encode::bulk(value.as_bytes(), out);
        }
        encode::bulk(b"proto", out);
        encode::integer(if version == Version::Resp3 { 3 } else { 2 }, out);
        encode::bulk(b"id", out);
        encode::integer(self.id as i64, out);
        for (key, value) in [("mode", "standalone"), ("role", "master")] {
            encode::bulk(key.as_bytes(), out);
            encode::bulk(value.as_bytes(), out);
        }
        encode::bulk(b"modules", out);
        encode::array_head(0, out);
    }

    fn auth(&mut self, request: &Request<'_>, facts: &NodeFacts<'_>, out: &mut Vec<u8>) {
        let (user, password) = match request.args {
            2 => (&b"default"[..], request.argument(1).unwrap_or_default()),
            3 => (request.argument(1).unwrap_or_default(), request.argument(2).unwrap_or_default()),
            _ => return encode::error(SYNTAX, out),
        };
        if request.args == 2 && facts.requirepass.is_none() {
            return encode::error(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
                out,
            );
        }
        if !is_right(user, password, facts) {
            return encode::error(WRONGPASS, out);
        }
        self.is_authenticated = true;
        encode::status("OK", out);
    }

    fn set_info(&mut self, what: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let what = what.to_ascii_lowercase();
        if what != b"lib-name" && what != b"lib-ver" {
            let what = String::from_utf8_lossy(&what).replace(['\r', '\n'], " ");
            return encode::error(&format!("ERR Unrecognized option '{what}'"), out);
        }
        if !is_name(value) {
            let what = String::from_utf8_lossy(&what).into_owned();
            return encode::error(&format!("ERR {what} cannot contain spaces, newlines or special characters."), out);
        }
        let library = self.library.get_or_insert_default();
        let field = if what == b"lib-name" { &mut library.name } else { &mut library.version };
        *field = value.into();
        encode::status("OK", out);
    }

    /// Appends this client's line of CLIENT LIST.
    pub fn describe(&self, facts: &ClientFacts<'_>, text: &mut Vec<u8>) {
        let flags = if facts.is_subscribed {
            "P"
        } else if facts.is_in_transaction {
            "x"
        } else {
            "N"
        };
        let multi = if facts.is_in_transaction { 0 } else { -1 };
        // Writing to a Vec does not fail.
        let _ = write!(text, "id={} addr={} laddr={} fd=-1 name=", self.id, facts.address, facts.local_address);
        text.extend_from_slice(&self.name);
        let (age, idle, sub) = (facts.age_seconds, facts.idle_seconds, u8::from(facts.is_subscribed));
        let resp = if self.version == Version::Resp3 { 3 } else { 2 };
        let _ = write!(
            text,
            " age={age} idle={idle} flags={flags} db=0 sub={sub} psub=0 ssub=0 multi={multi} qbuf=0 qbuf-free=0 \
             argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd=NULL user=default redir=-1 \
             resp={resp} lib-name="
        );
        text.extend_from_slice(self.library.as_ref().map_or(&[], |library| &library.name));
        text.extend_from_slice(b" lib-ver=");
        text.extend_from_slice(self.library.as_ref().map_or(&[], |library| &library.version));
        text.push(b'\n');
    }

    /// Says text for people: the lines of CLIENT LIST and CLIENT INFO.
    pub fn tell(&self, text: &[u8], out: &mut Vec<u8>) {
        encode::verbatim(text, self.version, out);
    }
}

/// There is one database. Redis has sixteen by default, which is why others are refused in its words for the 17th.
fn select(database: &[u8], out: &mut Vec<u8>) {
    match canonical(database) {
        Some(0) => encode::status("OK", out),
        Some(_) => encode::error("ERR DB index is out of range", out),
        None => encode::error(NOT_INTEGER, out),
    }
}

fn switch(flag: &mut bool, word: &[u8], out: &mut Vec<u8>) {
    match word.to_ascii_lowercase().as_slice() {
        b"on" => *flag = true,
        b"off" => *flag = false,
        _ => return encode::error(SYNTAX, out),
    }
    encode::status("OK", out);
}

fn listing<'a>(request: &Request<'a>) -> Result<Listing<'a>, String> {
    let mut rest = request.arguments();
    let (option, value) = (rest.nth(2), rest.clone().next());
    let (Some(option), Some(value)) = (option, value) else {
        return if option.is_none() { Ok(Listing::All) } else { Err(SYNTAX.into()) };
    };
    if option.eq_ignore_ascii_case(b"id") {
        return match rest.clone().all(|id| canonical(id).is_some()) {
            true => Ok(Listing::Ids(rest)),
            false => Err("ERR Invalid client ID".into()),
        };
    }
    if !option.eq_ignore_ascii_case(b"type") || request.args != 4 {
        return Err(SYNTAX.into());
    }
    match value.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(Listing::Normal),
        b"pubsub" => Ok(Listing::Subscribed),
        b"master" | b"replica" | b"slave" => Ok(Listing::Nobody),
        _ => {
            let value = String::from_utf8_lossy(value).replace(['\r', '\n'], " ");
            Err(format!("ERR Unknown client type '{value}'"))
        }
    }
}

/// Anything that can stand in a line of CLIENT LIST without looking like something else.
fn is_name(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

fn is_right(user: &[u8], password: &[u8], facts: &NodeFacts<'_>) -> bool {
    user == b"default" && facts.requirepass.is_none_or(|expected| is_same(expected.as_bytes(), password))
}

/// Takes as long for a password that is wrong at its end as for one that is wrong at its beginning.
fn is_same(expected: &[u8], said: &[u8]) -> bool {
    let differing = expected.iter().zip(said).fold(0, |differing, (a, b)| differing | (a ^ b));
    std::hint::black_box(differing) == 0 && expected.len() == said.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::request::{Decoded, Limits};
    use crate::protocol::resp::decode::Decoder;

    struct Told {
        session: Session,
        requirepass: Option<&'static str>,
    }

    impl Told {
        fn new(requirepass: Option<&'static str>) -> Told {
            Told { session: Session::new(7, requirepass), requirepass }
        }

        /// The answer with `|` for CR LF; what is to be done besides in brackets.
        fn ask(&mut self, line: &str) -> String {
            let (line, mut decoder) = (format!("{line}\r\n"), Decoder::default());
            let request = match decoder.decode(line.as_bytes(), &Limits::default()) {
                Decoded::Request { request, .. } => request,
                Decoded::Refused { error, .. } => return String::from_utf8(error).unwrap().replace("\r\n", "|"),
                other => panic!("{line}: {other:?}"),
            };
            let mut out = Vec::new();
            let facts = NodeFacts { requirepass: self.requirepass, epoch_micros: 1_700_000_000_000_123 };
            let more = match self.session.answer(&request, &facts, &mut out) {
                Answer::Said => String::new(),
                Answer::Close => "(close)".into(),
                Answer::Reset => "(reset)".into(),
                Answer::Level(level) => format!("(level {})", level.escape_ascii()),
                Answer::Clients(listing) => {
                    let wanted = |id, subscribed| listing.wants(7, id, subscribed);
                    let wanted: Vec<u64> = [(7, false), (8, true), (9, false)]
                        .into_iter()
                        .filter(|&(id, sub)| wanted(id, sub))
                        .map(|(id, _)| id)
                        .collect();
                    format!("(clients {wanted:?})")
                }
            };
            String::from_utf8(out).unwrap().replace("\r\n", "|") + &more
        }

        #[track_caller]
        fn check(&mut self, line: &str, expected: &str) {
            assert_eq!(self.ask(line), expected, "{line}");
        }
    }

    #[test]
    fn plain_answers() {
        let mut client = Told::new(None);
        client.check("ping", "+PONG|");
        client.check("ping 'a b'", "$3|a b|");
        client.check("ping a b", "-ERR wrong number of arguments for 'ping' command|");
        client.check("echo x", "$1|x|");
        client.check("select 0", "+OK|");
        client.check("select 1", "-ERR DB index is out of range|");
        client.check("select 00", "-ERR value is not an integer or out of range|");
        client.check("time", "*2|$10|1700000000|$3|123|");
        client.check("readonly", "-ERR This instance has cluster support disabled|");
        client.check("acl whoami", "$7|default|");
        client.check("dyno_config:conn_consistency dc_quorum", "(level dc_quorum)");
        client.check("quit", "+OK|(close)");
    }

    #[test]
    fn hello() {
        let fields = |version: u8| {
            format!(
                "$6|server|$5|redis|$7|version|$6|7.0.15|$5|proto|:{version}|$2|id|:7|$4|mode|$10|standalone|$4|role|$6|master|$7|modules|*0|"
            )
        };
        let mut client = Told::new(None);
        client.check("hello", &format!("*14|{}", fields(2)));
        client.check("hello 3 setname me", &format!("%7|{}", fields(3)));
        client.check("client getname", "$2|me|");
        client.check("hello", &format!("%7|{}", fields(3)));
        client.check("hello 4", "-NOPROTO unsupported protocol version|");
        client.check("hello x", "-ERR Protocol version is not an integer or out of range|");
        client.check("hello 2 foo", "-ERR Syntax error in HELLO option 'foo'|");
        client.check("hello 2 auth default", "-ERR Syntax error in HELLO option 'auth'|");
        client.check(
            "hello 2 setname 'a b'",
            "-ERR Client names cannot contain spaces, newlines or special characters.|",
        );
        assert_eq!(client.session.version(), Version::Resp3, "a HELLO that fails changes nothing");
        client.check("hello 2 auth other x", "-WRONGPASS invalid username-password pair or user is disabled.|");
        client.check("hello 2 auth default x", &format!("*14|{}", fields(2)));
    }

    #[test]
    fn a_password_is_asked_for() {
        let mut client = Told::new(Some("secret"));
        for line in ["ping", "client setname x", "select 0", "command", "dyno_config:conn_consistency dc_one"] {
            client.check(line, "-NOAUTH Authentication required.|");
        }
        assert!(client.ask("hello 3").starts_with("-NOAUTH HELLO must be called"));
        for line in ["auth wrong", "auth secre", "auth secrets", "auth other secret", "hello 3 auth default wrong"] {
            client.check(line, "-WRONGPASS invalid username-password pair or user is disabled.|");
        }
        client.check("auth a b c", "-ERR syntax error|");
        client.check("auth secret", "+OK|");
        client.check("ping", "+PONG|");
        client.check("reset", "+RESET|(reset)");
        client.check("ping", "-NOAUTH Authentication required.|");
        assert!(client.ask("hello 3 auth default secret").starts_with("%7|"));
        client.check("client getname", "_|");
        client.check("reset", "+RESET|(reset)");
        assert_eq!(client.session.version(), Version::Resp2);
        client.check("quit", "+OK|(close)");
    }

    #[test]
    fn no_password_to_say() {
        let mut client = Told::new(None);
        assert!(client.ask("auth x").starts_with("-ERR AUTH <password> called without any password configured"));
        client.check("auth default x", "+OK|");
        client.check("auth other x", "-WRONGPASS invalid username-password pair or user is disabled.|");
    }

    #[test]
    fn clients() {
        let mut client = Told::new(None);
        client.check("client id", ":7|");
        client.check("client getname", "$-1|");
        client.check("client setname x-y", "+OK|");
        client.check("client getname", "$3|x-y|");
        client.check("client setname ''", "+OK|");
        client.check("client getname", "$-1|");
        client.check("client setinfo LIB-NAME redis-py", "+OK|");
        client.check("client setinfo lib-ver 8.1.0", "+OK|");
        client.check(
            "client setinfo lib-ver 'a b'",
            "-ERR lib-ver cannot contain spaces, newlines or special characters.|",
        );
        client.check("client setinfo what x", "-ERR Unrecognized option 'what'|");
        client.check("client no-evict on", "+OK|");
        client.check("client no-touch maybe", "-ERR syntax error|");
        client.check("client reply on", "+OK|");
        client.check("client reply off", "-ERR Not served by Dynomite: 'client|reply' other than ON|");
        client.check("client getredir", ":-1|");
        client.check("client trackinginfo", "*6|$5|flags|*1|$3|off|$8|redirect|:-1|$8|prefixes|*0|");
        client.check("client info", "(clients [7])");
        client.check("client list", "(clients [7, 8, 9])");
        client.check("client list type normal", "(clients [7, 9])");
        client.check("client list type pubsub", "(clients [8])");
        client.check("client list type replica", "(clients [])");
        client.check("client list id 9 1 7", "(clients [7, 9])");
        client.check("client list id", "-ERR syntax error|");
        client.check("client list id x", "-ERR Invalid client ID|");
        client.check("client list type x", "-ERR Unknown client type 'x'|");
        client.check("client list foo bar", "-ERR syntax error|");
        let facts = ClientFacts {
            address: &"1.2.3.4:5",
            local_address: &"6.7.8.9:10",
            age_seconds: 3,
            idle_seconds: 1,
            is_subscribed: false,
            is_in_transaction: false,
        };
        let mut text = Vec::new();
        client.session.describe(&facts, &mut text);
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.starts_with("id=7 addr=1.2.3.4:5 laddr=6.7.8.9:10 fd=-1 name= age=3 idle=1 flags=N db=0 "),
            "{text}"
        );
        assert!(text.ends_with(" resp=2 lib-name=redis-py lib-ver=8.1.0\n"), "{text}");
        let mut out = Vec::new();
        client.session.tell(b"a\n", &mut out);
        assert_eq!(out, b"$2\r\na\n\r\n");
    }

    /// Every row that is said to be answered here is.
    #[test]
    fn no_row_is_forgotten() {
        use crate::protocol::commands::Routing;
        use crate::protocol::resp::commands::COMMANDS;
        for row in COMMANDS.iter().filter(|row| row.routing == Routing::Node) {
            let words = row.arity.unsigned_abs() as usize - row.name.split(' ').count();
            let answer = Told::new(None).ask(&format!("{}{}", row.name, " x".repeat(words)));
            assert!(!answer.is_empty() && !answer.contains("unknown"), "{}: {answer}", row.name);
        }
    }
}
