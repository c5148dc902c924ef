//! The commands: their names, how many arguments they take, and who executes them.

use super::arguments::{Arguments, is};
use super::fail::{Fail, Outcome};
use super::store::Store;
use super::{bits, hash, keys, list, node, script, set, sort, sorted, sorted_many, text};

pub struct Row {
    /// Lower case.
    pub name: &'static str,
    /// Arguments with the name: `n` exactly, `-n` at least.
    pub arity: i16,
    pub run: fn(&mut Store, Arguments<'_>, &mut Vec<u8>) -> Outcome,
}

macro_rules! rows {
    ($($name:literal $arity:literal $run:path,)*) => {
        /// In the order of their names.
        pub static ROWS: &[Row] = &[$(Row { name: $name, arity: $arity, run: $run },)*];
    };
}

rows! {
    "append" 3 text::append,
    "auth" -2 node::auth,
    "bitcount" -2 bits::bitcount,
    "bitfield" -2 bits::bitfield,
    "bitfield_ro" -2 bits::bitfield_ro,
    "bitop" -4 bits::bitop,
    "bitpos" -3 bits::bitpos,
    "blmove" 6 list::blmove,
    "blmpop" -5 list::blmpop,
    "blpop" -3 list::blpop,
    "brpop" -3 list::brpop,
    "brpoplpush" 4 list::brpoplpush,
    "bzmpop" -5 sorted::bzmpop,
    "bzpopmax" -3 sorted::bzpopmax,
    "bzpopmin" -3 sorted::bzpopmin,
    "command" -1 node::command,
    "config" -2 node::config,
    "copy" -3 keys::copy,
    "dbsize" 1 keys::dbsize,
    "decr" 2 text::decr,
    "decrby" 3 text::decrby,
    "del" -2 keys::del,
    "echo" 2 node::echo,
    "eval" -3 script::eval,
    "evalsha" -3 script::evalsha,
    "exists" -2 keys::exists,
    "expire" -3 keys::expire,
    "expireat" -3 keys::expireat,
    "expiretime" 2 keys::expiretime,
    "flushall" -1 keys::flush,
    "flushdb" -1 keys::flush,
    "get" 2 text::get,
    "getbit" 3 bits::getbit,
    "getdel" 2 text::getdel,
    "getex" -2 text::getex,
    "getrange" 4 text::getrange,
    "getset" 3 text::getset,
    "hdel" -3 hash::hdel,
    "hexists" 3 hash::hexists,
    "hget" 3 hash::hget,
    "hgetall" 2 hash::hgetall,
    "hincrby" 4 hash::hincrby,
    "hincrbyfloat" 4 hash::hincrbyfloat,
    "hkeys" 2 hash::hkeys,
    "hlen" 2 hash::hlen,
    "hmget" -3 hash::hmget,
    "hmset" -4 hash::hmset,
    "hrandfield" -2 hash::hrandfield,
    "hscan" -3 hash::hscan,
    "hset" -4 hash::hset,
    "hsetnx" 4 hash::hsetnx,
    "hstrlen" 3 hash::hstrlen,
    "hvals" 2 hash::hvals,
    "incr" 2 text::incr,
    "incrby" 3 text::incrby,
    "incrbyfloat" 3 text::incrbyfloat,
    "info" -1 node::info,
    "keys" 2 keys::keys,
    "lcs" -3 text::lcs,
    "lindex" 3 list::lindex,
    "linsert" 5 list::linsert,
    "llen" 2 list::llen,
    "lmove" 5 list::lmove,
    "lmpop" -4 list::lmpop,
    "lpop" -2 list::lpop,
    "lpos" -3 list::lpos,
    "lpush" -3 list::lpush,
    "lpushx" -3 list::lpushx,
    "lrange" 4 list::lrange,
    "lrem" 4 list::lrem,
    "lset" 4 list::lset,
    "ltrim" 4 list::ltrim,
    "mget" -2 text::mget,
    "mset" -3 text::mset,
    "msetnx" -3 text::msetnx,
    "object" -2 keys::object,
    "persist" 2 keys::persist,
    "pexpire" -3 keys::pexpire,
    "pexpireat" -3 keys::pexpireat,
    "pexpiretime" 2 keys::pexpiretime,
    "ping" -1 node::ping,
    "psetex" 4 text::psetex,
    "pttl" 2 keys::pttl,
    "randomkey" 1 keys::randomkey,
    "rename" 3 keys::rename,
    "renamenx" 3 keys::renamenx,
    "rpop" -2 list::rpop,
    "rpoplpush" 3 list::rpoplpush,
    "rpush" -3 list::rpush,
    "rpushx" -3 list::rpushx,
    "sadd" -3 set::sadd,
    "scan" -2 keys::scan,
    "scard" 2 set::scard,
    "script" -2 script::script,
    "sdiff" -2 set::sdiff,
    "sdiffstore" -3 set::sdiffstore,
    "select" 2 node::select,
    "set" -3 text::set,
    "setbit" 4 bits::setbit,
    "setex" 4 text::setex,
    "setnx" 3 text::setnx,
    "setrange" 4 text::setrange,
    "sinter" -2 set::sinter,
    "sintercard" -3 set::sintercard,
    "sinterstore" -3 set::sinterstore,
    "sismember" 3 set::sismember,
    "smembers" 2 set::smembers,
    "smismember" -3 set::smismember,
    "smove" 4 set::smove,
    "sort" -2 sort::sort,
    "sort_ro" -2 sort::sort_ro,
    "spop" -2 set::spop,
    "srandmember" -2 set::srandmember,
    "srem" -3 set::srem,
    "sscan" -3 set::sscan,
    "strlen" 2 text::strlen,
    "substr" 4 text::getrange,
    "sunion" -2 set::sunion,
    "sunionstore" -3 set::sunionstore,
    "time" 1 node::time,
    "touch" -2 keys::exists,
    "ttl" 2 keys::ttl,
    "type" 2 keys::type_of,
    "unlink" -2 keys::del,
    "wait" 3 node::wait,
    "zadd" -4 sorted::zadd,
    "zcard" 2 sorted::zcard,
    "zcount" 4 sorted::zcount,
    "zdiff" -3 sorted_many::zdiff,
    "zdiffstore" -4 sorted_many::zdiffstore,
    "zincrby" 4 sorted::zincrby,
    "zinter" -3 sorted_many::zinter,
    "zintercard" -3 sorted_many::zintercard,
    "zinterstore" -4 sorted_many::zinterstore,
    "zlexcount" 4 sorted::zlexcount,
    "zmpop" -4 sorted::zmpop,
    "zmscore" -3 sorted::zmscore,
    "zpopmax" -2 sorted::zpopmax,
    "zpopmin" -2 sorted::zpopmin,
    "zrandmember" -2 sorted::zrandmember,
    "zrange" -4 sorted::zrange,
    "zrangebylex" -4 sorted::zrangebylex,
    "zrangebyscore" -4 sorted::zrangebyscore,
    "zrangestore" -5 sorted::zrangestore,
    "zrank" 3 sorted::zrank,
    "zrem" -3 sorted::zrem,
    "zremrangebylex" 4 sorted::zremrangebylex,
    "zremrangebyrank" 4 sorted::zremrangebyrank,
    "zremrangebyscore" 4 sorted::zremrangebyscore,
    "zrevrange" -4 sorted::zrevrange,
    "zrevrangebylex" -4 sorted::zrevrangebylex,
    "zrevrangebyscore" -4 sorted::zrevrangebyscore,
    "zrevrank" 3 sorted::zrevrank,
    "zscan" -3 sorted::zscan,
    "zscore" 3 sorted::zscore,
    "zunion" -3 sorted_many::zunion,
    "zunionstore" -4 sorted_many::zunionstore,
}

pub fn find(name: &[u8]) -> Option<&'static Row> {
    let mut lower = [0; 24];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let at = ROWS.binary_search_by(|row| row.name.as_bytes().cmp(lower)).ok()?;
    Some(&ROWS[at])
}

pub fn takes(arity: i16, arguments: usize) -> bool {
    if arity >= 0 { arguments == arity as usize } else { arguments >= arity.unsigned_abs() as usize }
}

/// Why a command cannot be executed, before anything is.
pub fn check(arguments: Arguments<'_>) -> Outcome<&'static Row> {
    let Some(name) = arguments.first() else { return Err(Fail::of("ERR empty command")) };
    let row = find(name).ok_or_else(|| unknown(arguments))?;
    if takes(row.arity, arguments.len()) { Ok(row) } else { Err(Fail::arity(row.name)) }
}

/// The same for commands of two words.
pub fn check_second(rows: &[(&str, i16)], arguments: Arguments<'_>) -> Outcome {
    let container = String::from_utf8_lossy(arguments[0]);
    match rows.iter().find(|(name, _)| is(arguments[1], name)) {
        Some((_, arity)) if takes(*arity, arguments.len()) => Ok(()),
        Some((name, _)) => Err(Fail::arity(&format!("{}|{name}", container.to_lowercase()))),
        None => {
            let word = clean(arguments[1], 128);
            Err(Fail::said(format!("ERR unknown subcommand '{word}'. Try {} HELP.", container.to_uppercase())))
        }
    }
}

/// A client's words as part of an error: never a line end.
fn clean(text: &[u8], max: usize) -> String {
    String::from_utf8_lossy(&text[..text.len().min(max)]).replace(['\r', '\n'], " ")
}

pub fn call(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let row = check(arguments)?;
    store.commands_processed += 1;
    (row.run)(store, arguments, out)
}

fn unknown(arguments: Arguments<'_>) -> Fail {
    let mut told = String::new();
    for argument in &arguments[1..] {
        if told.len() >= 128 {
            break;
        }
        told += &format!("'{}' ", clean(argument, 128 - told.len()));
    }
    Fail::said(format!("ERR unknown command '{}', with args beginning with: {told}", clean(arguments[0], 128)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_cannot_end_the_line() {
        for Fail(text) in [unknown(&[b"x\r\n+OK", b"y\r\n"]), check_second(&[], &[b"config", b"x\r\n+OK"]).unwrap_err()]
        {
            assert!(!text.contains(['\r', '\n']), "{text}");
        }
    }

    #[test]
    fn rows_are_in_order() {
        assert!(ROWS.is_sorted_by(|left, right| left.name < right.name));
        assert!(find(b"ZUnionStore").is_some());
        assert!(find(b"").is_none());
        assert!(find(&[b'x'; 100]).is_none());
    }
}
