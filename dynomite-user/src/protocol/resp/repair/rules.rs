//! Which request becomes which script, command by command.
//! Owns: the table. Knows nothing of: how a script's request is spelled.
//!
//! What several commands have in common decides: one that overwrites or removes a key, or names the fields that it writes
//! or removes, is skipped by replicas that know of something newer (the last write wins). One that changes what it finds
//! (INCR, APPEND, EXPIRE, LPUSH, …) is run wherever it arrives, as without read repair, and what it leaves is stamped, so
//! that an older value cannot come back in a repair. What a script cannot run, or whose reply does not survive Lua, is
//! sent as it is, and another script stamps its keys right behind it.

use std::sync::LazyLock;

use crate::protocol::commands::{Keys, Kind, Routing};
use crate::protocol::request::Request;
use crate::protocol::resp::commands::COMMANDS;

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// A key's value is read.
    Get,
    /// A field's value is read.
    GetField,
    /// A key is overwritten as a whole.
    Set,
    SetMany,
    /// Keys are removed.
    Remove,
    /// Fields or members are written.
    Put,
    RemoveFields,
    /// Run and stamped.
    Run(Run),
    /// Sent as it is; what it left is stamped behind it.
    Follow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub roles: Roles,
    /// Replies of 0 and below mean that nothing was changed.
    pub quiet: bool,
    pub fields: Fields,
}

/// What happens to which of the keys, in the order of `Request::keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Roles {
    /// Every key is changed.
    Change,
    /// Every key is overwritten.
    Overwrite,
    /// The first one is overwritten, the others are read.
    OverwriteFirst,
    /// The last one is overwritten, the others are read.
    OverwriteLast,
    /// The first one is moved over the second one.
    Rename,
}

/// Fields or members that a command names and leaves written, or takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fields {
    None,
    At {
        probe: &'static str,
        at: usize,
    },
    /// The last argument.
    Last {
        probe: &'static str,
    },
    /// Every third argument up to the last (`geoadd`).
    Thirds,
}

const RUN: Run = Run { roles: Roles::Change, quiet: false, fields: Fields::None };
const QUIET: Run = Run { quiet: true, ..RUN };
const INTO_FIRST: Run = Run { roles: Roles::OverwriteFirst, ..RUN };
const HASH_FIELD: Fields = Fields::At { probe: "HEXISTS", at: 2 };

#[rustfmt::skip]
const RULES: &[(&str, Rule)] = &[
    ("get", Rule::Get),
    ("hget", Rule::GetField),
    ("sismember", Rule::GetField),
    ("zscore", Rule::GetField),
    ("set", Rule::Set),
    ("setex", Rule::Set),
    ("psetex", Rule::Set),
    ("setnx", Rule::Set),
    ("getset", Rule::Set),
    ("mset", Rule::SetMany),
    ("del", Rule::Remove),
    ("unlink", Rule::Remove),
    ("getdel", Rule::Remove),
    ("hset", Rule::Put),
    ("hmset", Rule::Put),
    ("sadd", Rule::Put),
    ("zadd", Rule::Put),
    ("hdel", Rule::RemoveFields),
    ("srem", Rule::RemoveFields),
    ("zrem", Rule::RemoveFields),
    // Strings
    ("append", Rule::Run(RUN)),
    ("bitop", Rule::Run(INTO_FIRST)),
    ("decr", Rule::Run(RUN)),
    ("decrby", Rule::Run(RUN)),
    ("getex", Rule::Run(RUN)),
    ("incr", Rule::Run(RUN)),
    ("incrby", Rule::Run(RUN)),
    ("incrbyfloat", Rule::Run(RUN)),
    ("msetnx", Rule::Run(Run { roles: Roles::Overwrite, ..QUIET })),
    ("pfadd", Rule::Run(QUIET)),
    ("pfmerge", Rule::Run(INTO_FIRST)),
    ("setbit", Rule::Run(RUN)),
    ("setrange", Rule::Run(RUN)),
    // Hashes, sets, sorted sets
    ("geoadd", Rule::Run(Run { fields: Fields::Thirds, ..RUN })),
    ("hincrby", Rule::Run(Run { fields: HASH_FIELD, ..RUN })),
    ("hincrbyfloat", Rule::Run(Run { fields: HASH_FIELD, ..RUN })),
    ("hsetnx", Rule::Run(Run { fields: HASH_FIELD, ..QUIET })),
    ("smove", Rule::Run(Run { fields: Fields::Last { probe: "SISMEMBER" }, ..QUIET })),
    ("spop", Rule::Run(RUN)),
    ("sdiffstore", Rule::Run(INTO_FIRST)),
    ("sinterstore", Rule::Run(INTO_FIRST)),
    ("sunionstore", Rule::Run(INTO_FIRST)),
    ("zdiffstore", Rule::Run(INTO_FIRST)),
    ("zincrby", Rule::Run(Run { fields: Fields::Last { probe: "ZSCORE" }, ..RUN })),
    ("zinterstore", Rule::Run(INTO_FIRST)),
    ("zpopmax", Rule::Run(RUN)),
    ("zpopmin", Rule::Run(RUN)),
    ("zrangestore", Rule::Run(INTO_FIRST)),
    ("zremrangebylex", Rule::Run(QUIET)),
    ("zremrangebyrank", Rule::Run(QUIET)),
    ("zremrangebyscore", Rule::Run(QUIET)),
    ("zunionstore", Rule::Run(INTO_FIRST)),
    // Lists
    ("linsert", Rule::Run(QUIET)),
    ("lmove", Rule::Run(RUN)),
    ("lpop", Rule::Run(RUN)),
    ("lpush", Rule::Run(RUN)),
    ("lpushx", Rule::Run(QUIET)),
    ("lrem", Rule::Run(QUIET)),
    ("lset", Rule::Run(RUN)),
    ("ltrim", Rule::Run(RUN)),
    ("rpop", Rule::Run(RUN)),
    ("rpoplpush", Rule::Run(RUN)),
    ("rpush", Rule::Run(RUN)),
    ("rpushx", Rule::Run(QUIET)),
    // Keys of any type
    ("copy", Rule::Run(Run { roles: Roles::OverwriteLast, ..QUIET })),
    ("expire", Rule::Run(QUIET)),
    ("expireat", Rule::Run(QUIET)),
    ("persist", Rule::Run(QUIET)),
    ("pexpire", Rule::Run(QUIET)),
    ("pexpireat", Rule::Run(QUIET)),
    ("rename", Rule::Run(Run { roles: Roles::Rename, ..RUN })),
    ("renamenx", Rule::Run(Run { roles: Roles::Rename, ..QUIET })),
    ("restore", Rule::Run(Run { roles: Roles::Overwrite, ..RUN })),
    ("sort store", Rule::Run(Run { roles: Roles::OverwriteLast, ..RUN })),
];

/// A rule for each row of the command table.
static BY_VERB: LazyLock<Vec<Option<Rule>>> = LazyLock::new(|| {
    let rule_of = |name: &str| RULES.iter().find(|(known, _)| *known == name).map(|(_, rule)| *rule);
    let rules = COMMANDS.iter().map(|command| match (command.routing, command.keys) {
        (Routing::Normal, Keys::None) => None,
        (Routing::Normal, _) => rule_of(command.name).or((command.kind == Kind::Write).then_some(Rule::Follow)),
        _ => None,
    });
    rules.collect()
});

/// Lua hands a command no more arguments than this from a table (it has room for 8000).
const RUN_ARGUMENTS_MAX: u32 = 7000;

pub(super) fn rule_of(request: &Request<'_>) -> Option<Rule> {
    let rule = (*BY_VERB.get(usize::from(request.command.verb.0))?)?;
    let option = |from: usize, word: &str| {
        request.arguments().skip(from).any(|argument| argument.eq_ignore_ascii_case(word.as_bytes()))
    };
    match rule {
        // These only read.
        Rule::Run(_) if request.command.name == "getex" && request.args == 2 => None,
        // Their null is an array's.
        Rule::Run(_) if matches!(request.command.name, "lpop" | "rpop") && request.args > 2 => Some(Rule::Follow),
        Rule::Run(_) if request.args > RUN_ARGUMENTS_MAX => Some(Rule::Follow),
        // A command with so many options is wrong: the datastore says how.
        Rule::Set if request.args > 32 => None,
        Rule::Put if request.command.name == "zadd" => {
            let options = zadd_options(request);
            match (request.args as usize).checked_sub(2 + options) {
                Some(elements) if elements > 0 && elements.is_multiple_of(2) => {}
                _ => return None,
            }
            let increments = option(2, "incr") && request.arguments().skip(2).take(options).any(is_incr);
            Some(if increments { Rule::Run(Run { fields: Fields::Last { probe: "ZSCORE" }, ..RUN }) } else { rule })
        }
        Rule::Put if request.command.name != "sadd" && !request.args.is_multiple_of(2) => None,
        rule => Some(rule),
    }
}

fn is_incr(argument: &[u8]) -> bool {
    argument.eq_ignore_ascii_case(b"incr")
}

/// How many options stand before the first score.
pub(super) fn zadd_options(request: &Request<'_>) -> usize {
    const OPTIONS: [&[u8]; 6] = [b"nx", b"xx", b"gt", b"lt", b"ch", b"incr"];
    let is_option = |argument: &&[u8]| OPTIONS.iter().any(|option| argument.eq_ignore_ascii_case(option));
    request.arguments().skip(2).take_while(is_option).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_a_command() {
        for (name, rule) in RULES {
            let command = COMMANDS.iter().find(|command| command.name == *name);
            let command = command.unwrap_or_else(|| panic!("{name} is no command"));
            assert_eq!(BY_VERB[usize::from(command.verb.0)], Some(*rule), "{name}");
        }
    }

    #[test]
    fn every_write_of_keys_is_stamped_one_way_or_the_other() {
        for command in COMMANDS.iter() {
            let keyed = command.kind == Kind::Write && command.routing == Routing::Normal && command.keys != Keys::None;
            assert_eq!(
                keyed,
                BY_VERB[usize::from(command.verb.0)].is_some_and(|rule| !matches!(rule, Rule::Get | Rule::GetField)),
                "{}",
                command.name
            );
        }
    }
}
