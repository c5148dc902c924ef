//! Random arguments for every Redis command, made from what Redis itself says about its commands (COMMAND DOCS).
//! Owns: what values are worth trying. Knows nothing of: how answers are compared.

use std::collections::HashMap;

use dynomite_tests::{Client, Random, Value};

/// What a command takes, as Redis describes it.
#[derive(Debug, Default)]
struct Described {
    group: String,
    arguments: Vec<Argument>,
}

#[derive(Debug)]
struct Argument {
    name: String,
    kind: String,
    token: Option<String>,
    optional: bool,
    multiple: bool,
    multiple_token: bool,
    arguments: Vec<Argument>,
}

pub struct Arguments {
    commands: HashMap<String, Described>,
    /// Seconds since 1970 when the run began: what absolute times lie around.
    epoch: i64,
    /// What names `SCRIPTS[4]` in EVALSHA.
    sha: String,
    /// What RESTORE can be given.
    dumps: Vec<Vec<u8>>,
    /// The last id given to XADD, so that most of them are larger than what is there.
    stream_id: i64,
}

/// A request: its words, and the group of the command it is.
pub type Words = Vec<Vec<u8>>;

/// One request being made.
struct Making<'a> {
    name: &'a str,
    group: &'a str,
    words: Words,
    /// What `numkeys` announced, for the keys that follow it.
    announced: Option<usize>,
    /// How many keys the last run of keys had: as many ids follow in XREAD.
    keys: usize,
}

pub const SCRIPTS: &[&str] = &[
    "return redis.call('get', KEYS[1])",
    "return {1, {2, {3, 'four'}}, ARGV[1]}",
    "redis.call('set', KEYS[1], ARGV[1] or 'none') return redis.status_reply('FINE')",
    "return redis.error_reply('MINE own error')",
    "return #KEYS",
];
pub const FUNCTIONS: &str =
    "#!lua name=lib\nredis.register_function('f', function(keys, args) return {#keys, args} end)";

impl Arguments {
    /// Asks a Redis what its commands take.
    pub fn ask(client: &mut Client) -> Arguments {
        let docs = client.ask("COMMAND DOCS");
        let mut commands = HashMap::new();
        for pair in docs.elements().chunks_exact(2) {
            let described = describe(&pair[1]);
            for subcommand in pair[1].at("subcommands").map(Value::elements).unwrap_or_default().chunks_exact(2) {
                let mut subcommand = (subcommand[0].text().replace('|', " "), describe(&subcommand[1]));
                subcommand.1.group.clone_from(&described.group);
                commands.insert(subcommand.0, subcommand.1);
            }
            commands.insert(pair[0].text(), described);
        }
        let epoch = client.ask("TIME").elements()[0].text().parse().expect("TIME is a number");
        let sha = client.call(["SCRIPT", "LOAD", SCRIPTS[4]]).text();
        let mut dump = |create: &str| {
            client.ask(create);
            match client.ask("DUMP d") {
                Value::Bulk(dump) if client.ask("DEL d") == Value::Integer(1) => dump,
                other => panic!("no dump: {other:?}"),
            }
        };
        let dumps = vec![dump("SET d 12"), dump("RPUSH d a b c"), dump("HSET d f1 1 f2 2"), b"no dump".to_vec()];
        Arguments { commands, epoch, sha, dumps, stream_id: 100 }
    }

    /// Does this Redis know the command?
    pub fn knows(&self, name: &str) -> bool {
        self.commands.contains_key(base(name, &self.commands))
    }

    /// A request of this command, mostly one that makes sense.
    pub fn make(&mut self, name: &str, random: &mut Random) -> Words {
        let commands = std::mem::take(&mut self.commands);
        let known = base(name, &commands);
        let nothing = Described::default();
        let described = commands.get(known).unwrap_or(&nothing);
        let words = known.split(' ').map(|word| spelling(word, random)).collect();
        let mut making = Making { name: known, group: &described.group, words, announced: None, keys: 0 };
        for argument in &described.arguments {
            // `sort store`, `xread block`: the rows that an option makes.
            let asked = name.len() > known.len()
                && argument.token.as_deref().is_some_and(|token| name[known.len()..].trim() == token.to_lowercase());
            self.argument(argument, asked, &mut making, random);
        }
        let mut words = making.words;
        self.commands = commands;
        // The ends of a range are of the kind that an option behind them says.
        if let Some(option) =
            words.iter().position(|word| matches!(word.to_ascii_uppercase().as_slice(), b"BYLEX" | b"BYSCORE"))
        {
            let lex = words[option].eq_ignore_ascii_case(b"BYLEX");
            for end in [option - 2, option - 1] {
                words[end] = if lex { lexical(random) } else { bound(random) };
            }
        }
        if random.one_in(40) {
            words.push(b"surplus".to_vec());
        }
        if random.one_in(40) && words.len() > 1 {
            words.pop();
        }
        words
    }

    fn argument(&mut self, argument: &Argument, asked: bool, making: &mut Making, random: &mut Random) {
        let announced = argument.kind == "key" && making.announced.is_some();
        if argument.optional && !asked && !announced && !random.one_in(3) {
            return;
        }
        let times = match (argument.multiple, argument.kind.as_str()) {
            (false, _) => 1,
            (true, "key") => making.announced.take().unwrap_or_else(|| 1 + random.below(3)),
            (true, _) if making.name.starts_with("xread") => making.keys,
            (true, _) if random.one_in(30) => 10 + random.below(60),
            (true, _) => 1 + random.below(3),
        };
        if argument.kind == "key" {
            making.keys = times;
        }
        for time in 0..times {
            if let Some(token) = argument
                .token
                .as_deref()
                .filter(|_| argument.kind != "pure-token" && (time == 0 || argument.multiple_token))
            {
                making.words.push(spelling(token, random));
            }
            match argument.kind.as_str() {
                "pure-token" => making.words.push(spelling(argument.token.as_deref().unwrap_or_default(), random)),
                "oneof" if !argument.arguments.is_empty() => {
                    let one = &argument.arguments[random.below(argument.arguments.len())];
                    self.argument(one, true, making, random);
                }
                "block" => argument.arguments.iter().for_each(|inner| self.argument(inner, false, making, random)),
                _ => {
                    let value = self.value(argument, making, random);
                    making.words.push(value);
                }
            }
        }
    }

    fn value(&mut self, argument: &Argument, making: &mut Making, random: &mut Random) -> Vec<u8> {
        let name = argument.name.as_str();
        match (argument.kind.as_str(), name) {
            ("key", _) => key(making.group, random),
            (_, "numkeys") => {
                let count = 1 + random.below(3);
                making.announced = Some(count);
                // Now and then a lie.
                if random.one_in(25) { text(random.pick(&["0", "-1", "9", "many", "2"])) } else { number(count) }
            }
            ("integer", _) => self.integer(argument, making, random),
            ("double", "longitude" | "latitude") => text(&format!("{}.5", random.between(-60, 60))),
            ("double", "radius" | "width" | "height") => number(random.between(1, 9000)),
            ("double", "timeout") => text("0.01"),
            ("double", _) if making.name == "zcount" => bound(random),
            ("double", _) if random.one_in(15) => {
                text(random.pick(&["inf", "-inf", "+inf", "1e400", "nan", "x", "0", "3.0", "1e17"]))
            }
            ("double", _) => text(&format!("{}.{}", random.between(-9, 9), random.pick(&["0", "5", "25", "1"]))),
            ("unix-time", _) => {
                let seconds = self.epoch + random.between(50_000, 90_000);
                number(if name.contains("milli") { seconds * 1000 } else { seconds })
            }
            ("pattern", _) => text(random.pick(&["*", "s*", "[s-z]*", "?1", "none", "f1", "m*"])),
            _ => self.string(argument, making, random),
        }
    }

    fn integer(&mut self, argument: &Argument, making: &Making, random: &mut Random) -> Vec<u8> {
        let name = argument.name.as_str();
        if random.one_in(40) {
            return text(random.pick(&["x", "", "9223372036854775808", "-9223372036854775809", "1.5", "007", " 1"]));
        }
        number(match (name, argument.token.as_deref()) {
            ("milliseconds", Some("BLOCK")) | ("timeout", _) => random.between(1, 10),
            ("seconds", _) => random.between(50_000, 90_000) * random.between(1, 1),
            ("milliseconds", _) => random.between(50_000_000, 90_000_000),
            ("ttl", _) if random.one_in(2) => 0,
            ("ttl", _) => random.between(50_000_000, 90_000_000),
            ("cursor" | "min-idle-time" | "db" | "destination-db" | "numreplicas", _) => 0,
            ("ms" | "version", _) => 0,
            ("offset" | "bit", _) if making.group == "bitmap" && name == "offset" => random.between(0, 200),
            ("bit", _) => random.between(0, 1),
            ("value", _) if making.name == "setbit" => random.between(0, 1),
            ("offset", _) if making.name == "setrange" => random.between(0, 50),
            ("rank", _) => random.between(-3, 3),
            ("count" | "limit" | "len", _) => random.between(-1, 6),
            ("increment" | "decrement" | "value", _) => random.between(-1000, 1000),
            _ => random.between(-6, 8),
        })
    }

    fn string(&mut self, argument: &Argument, making: &Making, random: &mut Random) -> Vec<u8> {
        let stream = making.group == "stream";
        match argument.name.as_str() {
            "field" => text(random.pick(&["f0", "f1", "f2", "f3", "f4", "1"])),
            "member" | "member1" | "member2" | "pivot" | "element" => element(random),
            "group" | "groupname" => text(random.pick(&["g0", "g1"])),
            "consumer" | "consumername" => text(random.pick(&["c0", "c1"])),
            "id" if making.name == "xadd" => {
                self.stream_id += 1;
                let id = if random.one_in(4) { random.between(0, 9) } else { self.stream_id };
                text(&format!("{id}-{}", random.between(0, 9)))
            }
            "id" if making.name == "xreadgroup" => text(random.pick(&[">", ">", "0", "3-1"])),
            "id" | "start" | "end" | "last-id" | "threshold" | "max_deleted_entry_id" if stream => {
                let id = random.between(0, self.stream_id + 1).to_string();
                text(random.pick(&["-", "+", "0", "0-0", "$", &id, &id, &id, "(5"]))
            }
            "min-idle-time" => text("0"),
            "threshold" => number(random.between(0, 20)),
            "min" | "max" | "start" | "stop" if making.name.contains("lex") => lexical(random),
            "start" | "stop" => number(random.between(-6, 8)),
            "min" | "max" => bound(random),
            "encoding" => text(random.pick(&["u8", "i5", "u1", "i64", "u63", "u64", "x"])),
            "script" => text(random.pick(SCRIPTS)),
            "sha1" => text(random.pick(&[self.sha.as_str(), "ffffffffffffffffffffffffffffffffffffffff"])),
            "function" => text(random.pick(&["f", "f", "none"])),
            "operation" => text(random.pick(&["AND", "OR", "XOR", "NOT"])),
            "serialized-value" => self.dumps[random.below(self.dumps.len())].clone(),
            "function-code" => text(FUNCTIONS),
            "library-name" => text("lib"),
            "type" => text(random.pick(&["string", "hash", "zset", "none"])),
            "channel" | "shardchannel" => text(random.pick(&["ch0", "ch1"])),
            "section" => text(random.pick(&["server", "everything"])),
            "value" if random.one_in(3) => number(random.between(-99, 99)),
            _ => something(random),
        }
    }
}

/// What a key's name begins with says what it holds. Now and then a key of another kind, or one with bytes that are no text.
fn key(group: &str, random: &mut Random) -> Vec<u8> {
    let kind = match group {
        "string" | "bitmap" => 's',
        "hash" => 'h',
        "list" => 'l',
        "set" => 'e',
        "sorted-set" => 'z',
        "stream" => 'x',
        "geo" => 'g',
        "hyperloglog" => 'p',
        _ => random.pick(&['s', 'h', 'l', 'e', 'z', 'x', 'g', 'p']),
    };
    if random.one_in(25) {
        let other = random
            .pick(&["s1", "h1", "l1", "e1", "z1", "x1", "{tag}s", "none", "s\r\n1", "\0\u{1}", "$5", "*1", "-", ""]);
        return text(other);
    }
    text(&format!("{kind}{}", random.below(4)))
}

/// One end of a range of scores.
fn bound(random: &mut Random) -> Vec<u8> {
    let score = random.between(-9, 9).to_string();
    if random.one_in(12) {
        return text(random.pick(&["[m1", "-", "+", "x", "(", ""]));
    }
    text(random.pick(&["-inf", "+inf", &score, &score, &format!("({score}")]))
}

/// One end of a range of members.
fn lexical(random: &mut Random) -> Vec<u8> {
    text(random.pick(&["-", "+", "[m1", "(m3", "[m0", "[z", "m"]))
}

fn element(random: &mut Random) -> Vec<u8> {
    if random.one_in(20) { something(random) } else { text(&format!("m{}", random.below(6))) }
}

/// A value: mostly short, sometimes awkward, seldom large.
fn something(random: &mut Random) -> Vec<u8> {
    match random.below(60) {
        0 => Vec::new(),
        1 => text("\r\n"),
        2 => text("$5\r\nhello\r\n"),
        3 => text("12345678901234567890"),
        4 => random.bytes(17),
        5 => random.bytes(300),
        6 => random.bytes(5_000),
        7 if random.one_in(3) => random.bytes(70_000),
        8..20 => number(random.between(-99, 99)),
        20..24 => text("1.5"),
        _ => text(random.pick(&["alpha", "beta", "Gamma", "delta", "foobar", "f1", "m1"])),
    }
}

/// Command names and options in any letter case.
fn spelling(word: &str, random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => word.to_lowercase().into_bytes(),
        1 if word.len() > 1 => text(&(word[..1].to_uppercase() + &word[1..].to_lowercase())),
        _ => word.to_uppercase().into_bytes(),
    }
}

fn text(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn number(number: impl ToString) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// The name Redis knows a row of the table by: `sort store` is `sort` with an option.
fn base<'a>(name: &'a str, commands: &HashMap<String, Described>) -> &'a str {
    if commands.contains_key(name) { name } else { name.split(' ').next().unwrap_or(name) }
}

fn describe(docs: &Value) -> Described {
    let arguments = docs.at("arguments").map(Value::elements).unwrap_or_default();
    Described {
        group: docs.at("group").map(Value::text).unwrap_or_default(),
        arguments: arguments.iter().map(argument).collect(),
    }
}

fn argument(docs: &Value) -> Argument {
    let text = |key: &str| docs.at(key).map(Value::text);
    let flags = docs.at("flags").map(Value::elements).unwrap_or_default();
    let inner = docs.at("arguments").map(Value::elements).unwrap_or_default();
    let flag = |name: &str| flags.iter().any(|flag| flag.text() == name);
    Argument {
        name: text("name").unwrap_or_default(),
        kind: text("type").unwrap_or_default(),
        token: text("token"),
        optional: flag("optional"),
        multiple: flag("multiple"),
        multiple_token: flag("multiple_token"),
        // Ids that a stream makes from the clock are nobody's to compare.
        arguments: inner.iter().map(argument).filter(|argument| argument.name != "auto_id").collect(),
    }
}
