//! COMMAND and its kind, from the table.
//! Owns: what clients are told about commands. Everything is derived from the rows.

use super::commands::{COMMANDS, CONTAINERS, find};
use super::encode::{self, Version};
use super::glob;
use crate::protocol::commands::{Across, Command, Keys, Kind, Private, Routing};
use crate::protocol::request::{Arguments, Decoded, Limits, Request};

/// Answers `command` and its subcommands.
pub fn answer(request: &Request<'_>, version: Version, out: &mut Vec<u8>) {
    let mut arguments = request.arguments();
    match request.command.name {
        "command" => all(version, out),
        "command count" => encode::integer(tops().count() as i64, out),
        "command info" if request.args == 2 => all(version, out),
        "command info" => {
            encode::array_head(request.args as usize - 2, out);
            arguments.skip(2).for_each(|name| match named(name) {
                Some(entry) => describe(&entry, version, out),
                None => encode::null(version, out),
            });
        }
        "command docs" => docs(arguments.skip(2), request.args as usize - 2, version, out),
        "command list" => list(arguments.skip(2), out),
        "command getkeys" => {
            arguments.nth(1);
            keys(arguments, |_, key, out| encode::bulk(key, out), out);
        }
        "command getkeysandflags" => {
            arguments.nth(1);
            keys(
                arguments,
                |command, key, out| {
                    encode::array_head(2, out);
                    encode::bulk(key, out);
                    access(command, version, out);
                },
                out,
            );
        }
        name => encode::error(&format!("ERR Not served by Dynomite: '{name}'"), out),
    }
}

/// What `… HELP` says: the subcommands there are.
pub fn help(container: &str, out: &mut Vec<u8>) {
    let subcommands = || subcommands(container).filter(|row| !matches!(row.routing, Routing::Refused(_)));
    encode::array_head(1 + subcommands().count(), out);
    encode::status(&format!("{} <subcommand> [<arg> ...]. Subcommands are:", container.to_uppercase()), out);
    for row in subcommands() {
        encode::status(&row.name[container.len() + 1..].to_uppercase(), out);
    }
}

/// A command of one word, or the first word of several.
enum Entry {
    Row(&'static Command),
    Container(&'static str),
}

/// The commands as clients count them: subcommands and what options make of a command are not among them.
fn tops() -> impl Iterator<Item = Entry> {
    let rows = COMMANDS.iter().filter(|row| !row.name.contains(' ') && !CONTAINERS.contains(&row.name));
    rows.map(Entry::Row).chain(CONTAINERS.iter().map(|name| Entry::Container(name)))
}

fn subcommands(container: &str) -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(move |row| row.name.strip_prefix(container).is_some_and(|rest| rest.starts_with(' ')))
}

fn named(name: &[u8]) -> Option<Entry> {
    let container = CONTAINERS.iter().find(|container| container.as_bytes().eq_ignore_ascii_case(name));
    if let Some(container) = container {
        return Some(Entry::Container(container));
    }
    // With a bar between the words, not a blank, and nothing that an option makes of a command.
    let row = find(name).filter(|_| !name.contains(&b' '))?;
    let first = row.name.split(' ').next()?;
    (first == row.name || CONTAINERS.contains(&first)).then_some(Entry::Row(row))
}

fn all(version: Version, out: &mut Vec<u8>) {
    encode::array_head(tops().count(), out);
    tops().for_each(|entry| describe(&entry, version, out));
}

/// The ten fields of COMMAND INFO.
fn describe(entry: &Entry, version: Version, out: &mut Vec<u8>) {
    encode::array_head(10, out);
    match *entry {
        Entry::Row(row) => {
            encode::bulk(shown(row).as_bytes(), out);
            encode::integer(row.arity.into(), out);
            set(&flags(row), version, out);
            span(row.keys).into_iter().for_each(|place| encode::integer(place, out));
            set(&categories(row), version, out);
            set(&[], version, out);
            specs(row, version, out);
            encode::array_head(0, out);
        }
        Entry::Container(name) => {
            encode::bulk(name.as_bytes(), out);
            encode::integer(find(name.as_bytes()).map_or(-2, |row| row.arity).into(), out);
            set(&[], version, out);
            (0..3).for_each(|_| encode::integer(0, out));
            set(if name == "command" { &["@connection", "@slow"] } else { &["@slow"] }, version, out);
            (0..2).for_each(|_| set(&[], version, out));
            encode::array_head(subcommands(name).count(), out);
            subcommands(name).for_each(|row| describe(&Entry::Row(row), version, out));
        }
    }
}

fn shown(row: &Command) -> String {
    row.name.replace(' ', "|")
}

fn set(words: &[&str], version: Version, out: &mut Vec<u8>) {
    encode::set_head(words.len(), version, out);
    words.iter().for_each(|word| encode::status(word, out));
}

fn flags(row: &Command) -> Vec<&'static str> {
    let mut flags = access_flag(row).into_iter().collect::<Vec<_>>();
    match row.routing {
        Routing::Private(Private::Blocking) => flags.push("blocking"),
        Routing::Private(Private::Subscribe | Private::Unsubscribe) => flags = vec!["pubsub"],
        Routing::Private(_) | Routing::Node => flags.clear(),
        Routing::Refused(_) => flags = vec!["admin"],
        _ if matches!(row.name, "xread" | "xreadgroup") => flags.push("blocking"),
        _ if group(row) == "pubsub" => flags = vec!["pubsub"],
        _ => {}
    }
    let moves = Keys::Counted { count: 0 };
    let is_counted = std::mem::discriminant(&row.keys) == std::mem::discriminant(&moves);
    let moves = matches!(row.keys, Keys::DestinationCounted { .. } | Keys::Streams | Keys::FirstAndStore { .. });
    if is_counted || moves || row.name == "sort_ro" {
        flags.push("movablekeys");
    }
    if is_fast(row) {
        flags.push("fast");
    }
    flags
}

/// What is done to data, if anything is. A script says that itself.
fn access_flag(row: &Command) -> Option<&'static str> {
    let is_data = match group(row) {
        _ if row.name.ends_with(" help") => false,
        "server" => matches!(row.name, "dbsize" | "flushall" | "flushdb" | "lolwut" | "memory usage"),
        "scripting" => {
            row.name.ends_with("_ro")
                || matches!(row.name, "function delete" | "function flush" | "function load" | "function restore")
        }
        _ => true,
    };
    // An option makes writes of these.
    let is_write = row.kind == Kind::Write || matches!(row.keys, Keys::FirstAndStore { .. });
    is_data.then_some(if is_write { "write" } else { "readonly" })
}

/// What takes no longer with more data, as Redis counts it.
fn is_fast(row: &Command) -> bool {
    const FAST: &[&str] = &[
        "append",
        "asking",
        "auth",
        "bitfield_ro",
        "bzpopmax",
        "bzpopmin",
        "dbsize",
        "decr",
        "decrby",
        "discard",
        "echo",
        "exists",
        "expire",
        "expireat",
        "expiretime",
        "get",
        "getbit",
        "getdel",
        "getex",
        "getset",
        "hdel",
        "hello",
        "hexists",
        "hget",
        "hincrby",
        "hincrbyfloat",
        "hlen",
        "hmget",
        "hmset",
        "hset",
        "hsetnx",
        "hstrlen",
        "incr",
        "incrby",
        "incrbyfloat",
        "lastsave",
        "llen",
        "lolwut",
        "lpop",
        "lpush",
        "lpushx",
        "mget",
        "move",
        "multi",
        "persist",
        "pexpire",
        "pexpireat",
        "pexpiretime",
        "pfadd",
        "ping",
        "pttl",
        "publish",
        "quit",
        "readonly",
        "readwrite",
        "renamenx",
        "reset",
        "role",
        "rpop",
        "rpush",
        "rpushx",
        "sadd",
        "scard",
        "select",
        "setnx",
        "sismember",
        "smismember",
        "smove",
        "spop",
        "spublish",
        "srem",
        "strlen",
        "swapdb",
        "time",
        "touch",
        "ttl",
        "type",
        "unlink",
        "unwatch",
        "watch",
        "xack",
        "xadd",
        "xautoclaim",
        "xclaim",
        "xdel",
        "xlen",
        "xsetid",
        "zadd",
        "zcard",
        "zcount",
        "zincrby",
        "zlexcount",
        "zmscore",
        "zpopmax",
        "zpopmin",
        "zrank",
        "zrem",
        "zrevrank",
        "zscore",
    ];
    FAST.binary_search(&row.name).is_ok()
}

/// Of its group, of its flags, and what Redis says besides.
fn categories(row: &Command) -> Vec<&'static str> {
    const BY_GROUP: &[(&str, &str)] = &[
        ("bitmap", "@bitmap"),
        ("connection", "@connection"),
        ("generic", "@keyspace"),
        ("geo", "@geo"),
        ("hash", "@hash"),
        ("hyperloglog", "@hyperloglog"),
        ("list", "@list"),
        ("pubsub", "@pubsub"),
        ("scripting", "@scripting"),
        ("set", "@set"),
        ("sorted-set", "@sortedset"),
        ("stream", "@stream"),
        ("string", "@string"),
        ("transactions", "@transaction"),
    ];
    const BY_FLAG: &[(&str, &[&str])] = &[
        ("write", &["@write"]),
        ("readonly", &["@read"]),
        ("blocking", &["@blocking"]),
        ("admin", &["@admin", "@dangerous"]),
        ("pubsub", &["@pubsub"]),
    ];
    const ADMIN: &[&str] = &["@admin", "@dangerous"];
    const BY_NAME: &[(&str, &[&str])] = &[
        ("client list", ADMIN),
        ("client no-evict", ADMIN),
        ("command", &["@connection"]),
        ("config ", ADMIN),
        ("dbsize", &["@keyspace"]),
        ("flushall", &["@dangerous", "@keyspace"]),
        ("flushdb", &["@dangerous", "@keyspace"]),
        ("info", &["@dangerous"]),
        ("keys", &["@dangerous"]),
        ("lastsave", ADMIN),
        ("latency ", ADMIN),
        ("module list", ADMIN),
        ("readonly", &["@connection"]),
        ("readwrite", &["@connection"]),
        ("replicaof", ADMIN),
        ("restore", &["@dangerous"]),
        ("role", ADMIN),
        ("slaveof", ADMIN),
        ("slowlog ", ADMIN),
        ("sort", &["@dangerous", "@list", "@set", "@sortedset"]),
    ];
    let (group, flags) = (group(row), flags(row));
    let is_sort = row.name.starts_with("sort");
    let of_group = BY_GROUP.iter().filter(|(name, _)| *name == group && !is_sort).map(|(_, category)| *category);
    // What a script that only reads is allowed says nothing of what it is.
    let counts = |flag: &&str| flags.contains(flag) && (group, *flag) != ("scripting", "readonly");
    let of_flags = BY_FLAG.iter().filter(|(flag, _)| counts(flag)).flat_map(|(_, categories)| *categories);
    let is_meant = |name: &str| row.name.starts_with(name) && !row.name.ends_with(" help");
    let of_name = BY_NAME.iter().filter(|(name, _)| is_meant(name)).flat_map(|(_, categories)| *categories);
    let speed = if flags.contains(&"fast") { "@fast" } else { "@slow" };
    let mut all: Vec<&str> = of_group.chain(of_flags.copied()).chain(of_name.copied()).chain([speed]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// First key, last key (counted from the end when negative) and step; zeros where that cannot be said.
fn span(keys: Keys) -> [i64; 3] {
    match keys {
        Keys::None | Keys::Counted { .. } | Keys::Streams => [0, 0, 0],
        Keys::At(at) => [at.into(), at.into(), 1],
        Keys::Range { first, but_last, step } => [first.into(), -1 - i64::from(but_last), step.into()],
        Keys::Pair { first } => [first.into(), i64::from(first) + 1, 1],
        Keys::DestinationCounted { .. } | Keys::FirstAndStore { .. } => [1, 1, 1],
    }
}

/// Where a client that knows nothing else finds the keys.
enum Begin {
    Index(u8),
    Keyword(&'static str, i64),
}

enum Find {
    Range { last: i64, step: u8, limit: i64 },
    Counted,
}

fn specs(row: &Command, version: Version, out: &mut Vec<u8>) {
    let one = Find::Range { last: 0, step: 1, limit: 0 };
    let specs = match row.keys {
        Keys::None => vec![],
        Keys::At(at) => vec![(Begin::Index(at), one)],
        Keys::Range { first, but_last, step } => {
            vec![(Begin::Index(first), Find::Range { last: -1 - i64::from(but_last), step, limit: 0 })]
        }
        Keys::Pair { first } => vec![(Begin::Index(first), Find::Range { last: 1, step: 1, limit: 0 })],
        Keys::Counted { count } => vec![(Begin::Index(count), Find::Counted)],
        Keys::DestinationCounted { count } => vec![(Begin::Index(1), one), (Begin::Index(count), Find::Counted)],
        Keys::Streams => vec![(Begin::Keyword("STREAMS", 1), Find::Range { last: -1, step: 1, limit: 2 })],
        Keys::FirstAndStore { options } => vec![
            (Begin::Index(1), one),
            (Begin::Keyword("STORE", options.into()), Find::Range { last: 0, step: 1, limit: 0 }),
        ],
    };
    encode::set_head(specs.len(), version, out);
    for (begin, find) in specs {
        encode::map_head(3, version, out);
        encode::bulk(b"flags", out);
        access(row, version, out);
        encode::bulk(b"begin_search", out);
        let (kind, fields): (&str, Vec<(&str, i64)>) = match begin {
            Begin::Index(at) => ("index", vec![("index", at.into())]),
            Begin::Keyword(_, from) => ("keyword", vec![("startfrom", from)]),
        };
        typed(
            kind,
            if let Begin::Keyword(word, _) = begin { Some(("keyword", word)) } else { None },
            &fields,
            version,
            out,
        );
        encode::bulk(b"find_keys", out);
        let (kind, fields) = match find {
            Find::Range { last, step, limit } => {
                ("range", vec![("lastkey", last), ("keystep", step.into()), ("limit", limit)])
            }
            Find::Counted => ("keynum", vec![("keynumidx", 0), ("firstkey", 1), ("keystep", 1)]),
        };
        typed(kind, None, &fields, version, out);
    }
}

/// A type and its spec.
fn typed(kind: &str, word: Option<(&str, &str)>, fields: &[(&str, i64)], version: Version, out: &mut Vec<u8>) {
    encode::map_head(2, version, out);
    encode::bulk(b"type", out);
    encode::bulk(kind.as_bytes(), out);
    encode::bulk(b"spec", out);
    encode::map_head(fields.len() + usize::from(word.is_some()), version, out);
    if let Some((key, value)) = word {
        encode::bulk(key.as_bytes(), out);
        encode::bulk(value.as_bytes(), out);
    }
    for (key, value) in fields {
        encode::bulk(key.as_bytes(), out);
        encode::integer(*value, out);
    }
}

/// What is done to the keys.
fn access(row: &Command, version: Version, out: &mut Vec<u8>) {
    match row.kind {
        Kind::Read => set(&["RO", "access"], version, out),
        Kind::Write => set(&["RW", "update"], version, out),
    }
}

/// COMMAND DOCS: what a node makes of each command, which its manual does not say.
fn docs<'a>(names: impl Iterator<Item = &'a [u8]>, count: usize, version: Version, out: &mut Vec<u8>) {
    let entries: Vec<Entry> = if count == 0 { tops().collect() } else { names.filter_map(named).collect() };
    encode::map_head(entries.len(), version, out);
    for entry in entries {
        match entry {
            Entry::Row(row) => doc(row, version, out),
            Entry::Container(name) => {
                encode::bulk(name.as_bytes(), out);
                encode::map_head(3, version, out);
                let first = subcommands(name).next();
                texts(&[("summary", "A container for subcommands"), ("group", first.map_or("generic", group))], out);
                encode::bulk(b"subcommands", out);
                encode::map_head(subcommands(name).count(), version, out);
                subcommands(name).for_each(|row| doc(row, version, out));
            }
        }
    }
}

fn doc(row: &Command, version: Version, out: &mut Vec<u8>) {
    encode::bulk(shown(row).as_bytes(), out);
    encode::map_head(2, version, out);
    texts(&[("summary", &summary(row)), ("group", group(row))], out);
}

fn texts(fields: &[(&str, &str)], out: &mut Vec<u8>) {
    for (key, value) in fields {
        encode::bulk(key.as_bytes(), out);
        encode::bulk(value.as_bytes(), out);
    }
}

fn summary(row: &Command) -> String {
    let does = if row.kind == Kind::Write { "Writes" } else { "Reads" };
    let by = match row.routing {
        Routing::Normal if row.keys == Keys::None => "by the node's own datastore",
        Routing::Normal => match (row.keys, row.across) {
            (Keys::At(_), _) => "by the owners of its key",
            (_, Across::OneOwner) => "by the owners of its keys, which must be the same for all",
            _ => "by the owners of its keys, each of which may have its own",
        },
        Routing::OwnRack => "by the key's owner in the node's own rack",
        Routing::Local => "by the node's own datastore",
        Routing::AllNodes => "by every node",
        Routing::EveryOwner => "by every owner",
        Routing::Node => return "Answered by the node itself".into(),
        Routing::Private(_) => return "Runs on a datastore connection of the client's own".into(),
        Routing::Refused(why) => return why.into(),
    };
    format!("{does}, {by}")
}

/// Where a section of the table begins, and what it is called.
const GROUPS: [(&str, &str); 16] = [
    ("append", "string"),
    ("bitcount", "bitmap"),
    ("hdel", "hash"),
    ("blmove", "list"),
    ("sadd", "set"),
    ("bzmpop", "sorted-set"),
    ("xack", "stream"),
    ("geoadd", "geo"),
    ("pfadd", "hyperloglog"),
    ("copy", "generic"),
    ("eval", "scripting"),
    ("publish", "pubsub"),
    ("multi", "transactions"),
    ("auth", "connection"),
    ("command", "server"),
    ("json.arrappend", "module"),
];

fn group(row: &Command) -> &'static str {
    if row.name.starts_with("cluster") || row.name == "asking" || row.name.starts_with("read") {
        return "cluster";
    }
    let begins = |name: &str| find(name.as_bytes()).is_some_and(|first| first.verb.0 <= row.verb.0);
    GROUPS.iter().rev().find(|(first, _)| begins(first)).map_or("generic", |(_, group)| group)
}

/// COMMAND LIST, all or filtered.
fn list<'a>(mut options: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    let mut names: Vec<String> = CONTAINERS.iter().map(ToString::to_string).collect();
    let is_option = |row: &&Command| row.name.ends_with(" store") || row.name.ends_with(" block");
    let rows = || COMMANDS.iter().filter(|row| !is_option(row) && !CONTAINERS.contains(&row.name));
    names.extend(rows().map(shown));
    let filter = (options.next(), options.next(), options.next(), options.next());
    match filter {
        (None, ..) => {}
        (Some(word), Some(by), Some(what), None) if word.eq_ignore_ascii_case(b"filterby") => {
            match by.to_ascii_lowercase().as_slice() {
                b"pattern" => {
                    let pattern = what.to_ascii_lowercase();
                    names.retain(|name| glob::matches(&pattern, name.as_bytes()));
                }
                b"aclcat" => {
                    let what = what.to_ascii_lowercase();
                    let belongs =
                        |row: &&Command| categories(row).iter().any(|category| category.as_bytes()[1..] == what);
                    names = rows().filter(belongs).map(shown).collect();
                }
                b"module" => names.clear(),
                _ => return encode::error("ERR syntax error", out),
            }
        }
        _ => return encode::error("ERR syntax error", out),
    }
    encode::array_head(names.len(), out);
    names.iter().for_each(|name| encode::bulk(name.as_bytes(), out));
}

/// COMMAND GETKEYS: the keys of the request that the remaining arguments are.
fn keys(arguments: Arguments<'_>, say: impl Fn(&Command, &[u8], &mut Vec<u8>), out: &mut Vec<u8>) {
    let mut frame = Vec::new();
    encode::array_head(arguments.clone().count(), &mut frame);
    arguments.for_each(|argument| encode::bulk(argument, &mut frame));
    let (mut decoder, limits) = (super::decode::Decoder::default(), Limits::default());
    let request = match decoder.decode(&frame, &limits) {
        Decoded::Request { request, .. } => request,
        Decoded::Refused { error, .. } if error.starts_with(b"-ERR wrong number") => {
            return encode::error("ERR Invalid number of arguments specified for command", out);
        }
        Decoded::Refused { error, .. } if !error.starts_with(b"-ERR unknown") => {
            return out.extend_from_slice(&error);
        }
        _ => return encode::error("ERR Invalid command specified", out),
    };
    let keys: Vec<&[u8]> = request.keys().collect();
    let no_keys = match request.command.keys {
        Keys::None => Some("ERR The command has no key arguments"),
        // No keys are a number of keys, too.
        Keys::Counted { count } if request.argument(count.into()) == Some(b"0") => None,
        _ if keys.is_empty() => Some("ERR Invalid arguments specified for command"),
        _ => None,
    };
    if let Some(error) = no_keys {
        return encode::error(error, out);
    }
    encode::array_head(keys.len(), out);
    keys.iter().for_each(|key| say(request.command, key, out));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, wanted: &str) {
        assert_eq!(summary(find(name.as_bytes()).expect(name)), wanted, "{name}");
    }

    #[test]
    fn summaries_say_whose_a_command_is() {
        check("get", "Reads, by the owners of its key");
        check("hset", "Writes, by the owners of its key");
        check("mget", "Reads, by the owners of its keys, each of which may have its own");
        check("rename", "Writes, by the owners of its keys, which must be the same for all");
        check("dbsize", "Reads, by every owner");
        check("ping", "Answered by the node itself");
    }
}
