//! Requests of every command, made up at random: what a test sends to two datastores, or to one past and through a node.
//! Owns: one or more patterns for each command, and their small grammar:
//!
//! `@s` a key that mostly holds a string (`@h` hash, `@l` list, `@e` set, `@z` sorted set, `@x` stream, `@g` positions,
//! `@p` HyperLogLog), now and then another key or none · `$` a value · `%` a member or field · `#` a small integer,
//! `+` one above zero · `~` a score · `&` degrees · `[…]` perhaps · `(…)` once or more · `{a|b}` one of them.

use crate::random::Random;

/// Sets up keys of every type. Send these before the samples.
pub const SETUP: &[&str] = &[
    "set s:0 hello",
    "set s:1 17",
    "set s:2 3.5",
    "hset h:0 a 1 b two c 3.5",
    "hset h:1 a 1",
    "rpush l:0 a b c d a",
    "rpush l:1 3 1 2",
    "sadd e:0 a b c",
    "sadd e:1 1 2 3",
    "zadd z:0 1 a 2.5 b -inf c 1e30 d",
    "zadd z:1 0 a 0 b 0 c",
    "xadd x:0 1-1 a 1 b 2",
    "xadd x:0 2-1 a 3",
    "xgroup create x:0 g 0",
    "xgroup create x:0 g2 $",
    "xreadgroup group g a count 1 streams x:0 >",
    "geoadd g:0 13.361389 38.115556 a 15.087269 37.502669 b",
    "pfadd p:0 a b c",
];

/// How far two replies to one sample may differ, asked of two datastores that hold the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// Not at all.
    Bytes,
    /// In what numbers and strings say: chance, time or the datastore's own state decides.
    Kinds,
}

#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The row's name in the command table.
    pub name: &'static str,
    pub pattern: &'static str,
    pub likeness: Likeness,
}

const fn same(name: &'static str, pattern: &'static str) -> Sample {
    Sample { name, pattern, likeness: Likeness::Bytes }
}

const fn alike(name: &'static str, pattern: &'static str) -> Sample {
    Sample { name, pattern, likeness: Likeness::Kinds }
}

pub const SAMPLES: &[Sample] = &[
    same("append", "append @s $"),
    same("decr", "decr @s"),
    same("decrby", "decrby @s #"),
    same("get", "get @s"),
    same("getdel", "getdel @s"),
    same("getex", "getex @s [{ex 1000|px 100000|persist|exat 4102444800|what}]"),
    same("getrange", "getrange @s # #"),
    same("getset", "getset @s $"),
    same("incr", "incr @s"),
    same("incrby", "incrby @s #"),
    same("incrbyfloat", "incrbyfloat @s ~"),
    same("lcs", "lcs @s @s [{len|idx|idx minmatchlen + withmatchlen}]"),
    same("mget", "mget (@s)"),
    same("mset", "mset (@s $)"),
    same("msetnx", "msetnx (@s $)"),
    same("psetex", "psetex @s 100000 $"),
    same("set", "set @s $ [{nx|xx|keepttl|ex 1000|get|xx get|what}]"),
    same("setex", "setex @s {1000|0} $"),
    same("setnx", "setnx @s $"),
    same("setrange", "setrange @s {0|3|9} $"),
    same("strlen", "strlen @s"),
    same("substr", "substr @s # #"),
    same("bitcount", "bitcount @s [# # [{byte|bit}]]"),
    same("bitfield", "bitfield @s (get u8 #) [overflow {fail|sat} incrby u4 + 9]"),
    same("bitfield_ro", "bitfield_ro @s (get i5 +)"),
    same("bitop", "bitop {and|or|xor|not} @s @s [@s]"),
    same("bitpos", "bitpos @s {0|1|2} [# [# [{byte|bit}]]]"),
    same("getbit", "getbit @s {0|7|99|-1}"),
    same("setbit", "setbit @s {0|7|99} {0|1|2}"),
    same("hdel", "hdel @h (%)"),
    same("hexists", "hexists @h %"),
    same("hget", "hget @h %"),
    same("hgetall", "hgetall @h"),
    same("hincrby", "hincrby @h % #"),
    same("hincrbyfloat", "hincrbyfloat @h % ~"),
    same("hkeys", "hkeys @h"),
    same("hlen", "hlen @h"),
    same("hmget", "hmget @h (%)"),
    same("hmset", "hmset @h (% $)"),
    alike("hrandfield", "hrandfield @h [# [withvalues]]"),
    same("hscan", "hscan @h {0|no} [match *] [count 1000]"),
    same("hset", "hset @h (% $) [%]"),
    same("hsetnx", "hsetnx @h % $"),
    same("hstrlen", "hstrlen @h %"),
    same("hvals", "hvals @h"),
    same("blmove", "blmove @l @l {left|right} {left|right} 0.001"),
    same("blmpop", "blmpop 0.001 {1 @l|2 @l @l|0|x} {left|right} [count +]"),
    same("blpop", "blpop (@l) {0.001|-1|x}"),
    same("brpop", "brpop (@l) 0.001"),
    same("brpoplpush", "brpoplpush @l @l 0.001"),
    same("lindex", "lindex @l #"),
    same("linsert", "linsert @l {before|after|x} % $"),
    same("llen", "llen @l"),
    same("lmove", "lmove @l @l {left|right} {left|right|x}"),
    same("lmpop", "lmpop {1 @l|2 @l @l|0|x|9 @l} {left|right} [count +]"),
    same("lpop", "lpop @l [#]"),
    same("lpos", "lpos @l % [{rank 1|rank -1|count 0|count 2 maxlen 3}]"),
    same("lpush", "lpush @l ($)"),
    same("lpushx", "lpushx @l (%)"),
    same("lrange", "lrange @l # #"),
    same("lrem", "lrem @l # %"),
    same("lset", "lset @l # $"),
    same("ltrim", "ltrim @l {0|1} {-1|5}"),
    same("rpop", "rpop @l [#]"),
    same("rpoplpush", "rpoplpush @l @l"),
    same("rpush", "rpush @l ($)"),
    same("rpushx", "rpushx @l (%)"),
    same("sadd", "sadd @e (%)"),
    same("scard", "scard @e"),
    same("sdiff", "sdiff (@e)"),
    same("sdiffstore", "sdiffstore @e (@e)"),
    same("sinter", "sinter (@e)"),
    same("sintercard", "sintercard {1 @e|2 @e @e|0|x|5 @e} [limit {0|1|-1}]"),
    same("sinterstore", "sinterstore @e (@e)"),
    same("sismember", "sismember @e %"),
    same("smembers", "smembers @e"),
    same("smismember", "smismember @e (%)"),
    same("smove", "smove @e @e %"),
    same("spop", "spop @e {0|100|-1|x}"),
    same("spop", "spop none"),
    alike("srandmember", "srandmember @e [#]"),
    same("srem", "srem @e (%)"),
    same("sscan", "sscan @e {0|no} [count 1000]"),
    same("sunion", "sunion (@e)"),
    same("sunionstore", "sunionstore @e (@e)"),
    same("bzmpop", "bzmpop 0.001 {1 @z|2 @z @z|0|x} {min|max} [count +]"),
    same("bzpopmax", "bzpopmax (@z) 0.001"),
    same("bzpopmin", "bzpopmin (@z) 0.001"),
    same("zadd", "zadd @z [{nx|xx}] [{gt|lt}] [ch] [incr] ~ % [~ %]"),
    same("zcard", "zcard @z"),
    same("zcount", "zcount @z {-inf|ABOVE_2|x} {+inf|2}"),
    same("zdiff", "zdiff {1 @z|2 @z @z|0|x|9 @z} [withscores]"),
    same("zdiffstore", "zdiffstore @z {1 @z|2 @z @z|0|x}"),
    same("zincrby", "zincrby @z ~ %"),
    same("zinter", "zinter {1 @z|2 @z @z weights 2 3|2 @z @e aggregate max} [withscores]"),
    same("zintercard", "zintercard {1 @z|2 @z @e|0|x} [limit 1]"),
    same("zinterstore", "zinterstore @z {1 @z|2 @z @z weights 2 3|2 @z @e aggregate max}"),
    same("zlexcount", "zlexcount @z {-|FROM_A|x} {PLUS|BEFORE_C}"),
    same("zmpop", "zmpop {1 @z|2 @z @z|0|x} {min|max} [count +]"),
    same("zmscore", "zmscore @z (%)"),
    same("zpopmax", "zpopmax @z [#]"),
    same("zpopmin", "zpopmin @z [#]"),
    alike("zrandmember", "zrandmember @z [# [withscores]]"),
    same("zrange", "zrange @z # # [rev] [withscores]"),
    same("zrange", "zrange @z {-inf|1} {+inf|2} byscore [limit 0 +] [withscores]"),
    same("zrange", "zrange @z - {PLUS|TO_C} bylex [limit 1 2]"),
    same("zrangebylex", "zrangebylex @z {-|BEHIND_A} {PLUS|TO_C} [limit 0 2]"),
    same("zrangebyscore", "zrangebyscore @z {-inf|1} {+inf|BELOW_3} [withscores] [limit 0 2]"),
    same("zrangestore", "zrangestore @z @z # #"),
    same("zrank", "zrank @z %"),
    same("zrem", "zrem @z (%)"),
    same("zremrangebylex", "zremrangebylex @z TO_C PLUS"),
    same("zremrangebyrank", "zremrangebyrank @z 3 -1"),
    same("zremrangebyscore", "zremrangebyscore @z {ABOVE_2|x} 3"),
    same("zrevrange", "zrevrange @z # # [withscores]"),
    same("zrevrangebylex", "zrevrangebylex @z PLUS -"),
    same("zrevrangebyscore", "zrevrangebyscore @z +inf {-inf|1} [withscores]"),
    same("zrevrank", "zrevrank @z %"),
    same("zscan", "zscan @z {0|no} [match {*|a}]"),
    same("zscore", "zscore @z %"),
    same("zunion", "zunion {1 @z|2 @z @z weights 2 3|2 @z @e aggregate max|0|x} [withscores]"),
    same("zunionstore", "zunionstore @z {1 @z|2 @z @z weights 2 3|2 @z @e aggregate max|x}"),
    same("xack", "xack @x g ({1-1|2-1|x})"),
    same("xadd", "xadd @x [nomkstream] [maxlen 20] {9-*|1-1|0-0} a $"),
    alike("xadd", "xadd @x [maxlen TILDE 20] * a $"),
    alike("xautoclaim", "xautoclaim @x g {a|b} 0 0 [count 2] [justid]"),
    alike("xclaim", "xclaim @x {g|none} b 0 ({1-1|2-1}) [justid]"),
    same("xdel", "xdel @x ({2-1|7-7|x})"),
    same("xgroup create", "xgroup create @x {g3|g} {0|$} [mkstream]"),
    same("xgroup createconsumer", "xgroup createconsumer @x {g|none} {a|c}"),
    same("xgroup delconsumer", "xgroup delconsumer @x {g|none} {c|d}"),
    same("xgroup destroy", "xgroup destroy @x {g3|none}"),
    same("xgroup help", "xgroup help"),
    same("xgroup setid", "xgroup setid @x {g2|none} {0|$}"),
    alike("xinfo consumers", "xinfo consumers @x {g|none}"),
    alike("xinfo groups", "xinfo groups @x"),
    same("xinfo help", "xinfo help"),
    alike("xinfo stream", "xinfo stream @x [full [count 1]]"),
    same("xlen", "xlen @x"),
    alike("xpending", "xpending @x {g|g2|none} [- PLUS 5 [a]]"),
    alike("xrange", "xrange @x {-|1|x} PLUS [count 3]"),
    alike("xread", "xread [count 2] streams {@x 0|@x @x 0 0|@x $|@x @x 0}"),
    alike("xread block", "xread [count 2] block 1 streams {@x 0|@x $}"),
    alike("xreadgroup", "xreadgroup group {g|g2|none} {a|b} [count 1] [noack] streams @x {>|0}"),
    alike("xreadgroup block", "xreadgroup group g2 a block 1 streams @x {>|0}"),
    alike("xrevrange", "xrevrange @x PLUS - [count 3]"),
    same("xsetid", "xsetid @x {99999999999999-1|0-1}"),
    alike("xtrim", "xtrim @x {maxlen 3|minid 2|maxlen x}"),
    same("geoadd", "geoadd @g [{nx|xx}] [ch] & & %"),
    same("geodist", "geodist @g % % [{km|ft|x}]"),
    same("geohash", "geohash @g (%)"),
    same("geopos", "geopos @g (%)"),
    same("georadius", "georadius @g 15 37 {200|0} km [withcoord] [withdist] [withhash] [count 2] [{asc|desc}]"),
    same("georadius store", "georadius @g 15 37 200 km {store|storedist} @g"),
    same("georadius_ro", "georadius_ro @g 15 37 200 km [withcoord] [withdist]"),
    same("georadiusbymember", "georadiusbymember @g % 200 km [withhash] [withcoord] [withdist] [asc]"),
    same("georadiusbymember store", "georadiusbymember @g % 200 km store @g"),
    same("georadiusbymember_ro", "georadiusbymember_ro @g % 200 km [withcoord]"),
    same(
        "geosearch",
        "geosearch @g {frommember %|fromlonlat 15 37} byradius 200 km asc [withcoord] [withdist] [withhash]",
    ),
    same("geosearchstore", "geosearchstore @g @g fromlonlat 15 37 bybox 400 400 km asc [storedist]"),
    same("pfadd", "pfadd @p (%)"),
    same("pfcount", "pfcount (@p)"),
    same("pfmerge", "pfmerge @p [@p]"),
    same("copy", "copy @s @s [replace]"),
    same("del", "del (@s)"),
    alike("dump", "dump @s"),
    same("exists", "exists (@s)"),
    same("expire", "expire @s {1000|x} [{nx|xx|gt|lt|x}]"),
    same("expireat", "expireat @s 4102444800"),
    alike("expiretime", "expiretime @s"),
    alike("keys", "keys {*|s:*|nothing*}"),
    same("object encoding", "object encoding @l"),
    alike("object freq", "object freq @s"),
    same("object help", "object help"),
    alike("object idletime", "object idletime @s"),
    same("object refcount", "object refcount @s"),
    same("persist", "persist @s"),
    same("pexpire", "pexpire @s 1000000"),
    same("pexpireat", "pexpireat @s 4102444800000"),
    alike("pexpiretime", "pexpiretime @s"),
    alike("pttl", "pttl @s"),
    alike("randomkey", "randomkey"),
    same("rename", "rename @s @s"),
    same("renamenx", "renamenx @s @s"),
    same("restore", "restore @s 0 $ [{replace|absttl|x}]"),
    alike("scan", "scan {0|x} [match {*|s*}] [count 1000] [type list]"),
    same("sort", "sort {@l|@e} alpha [limit 0 3] [{asc|desc}] [get # get s:*]"),
    same("sort store", "sort @l [by nosort] alpha store @l"),
    same("sort_ro", "sort_ro @l [alpha]"),
    same("touch", "touch (@s)"),
    alike("ttl", "ttl @s"),
    same("type", "type @s"),
    same("unlink", "unlink (@s)"),
    same("wait", "wait 0 1"),
    same("eval", "eval {SCRIPT|GETS|NESTED|FALSE} {0|1 @s|2 @s @s|x}"),
    same("eval_ro", "eval_ro GETS {1 @s|9 @s}"),
    same("evalsha", "evalsha {abc|ONE_SHA} 1 @s"),
    same("evalsha_ro", "evalsha_ro ONE_SHA 1 @s"),
    same("fcall", "fcall {f|none} {1 @s|0|x}"),
    same("fcall_ro", "fcall_ro f 1 @s"),
    same("function delete", "function delete none"),
    same("function dump", "function dump"),
    same("function flush", "function flush [{sync|x}]"),
    same("function help", "function help"),
    same("function kill", "function kill"),
    same("function list", "function list [withcode] [libraryname {lib|none}]"),
    same("function load", "function load replace {LIBRARY|nonsense}"),
    same("function restore", "function restore nonsense"),
    same("function stats", "function stats"),
    same("script exists", "script exists {abc|ONE_SHA} [x]"),
    same("script flush", "script flush [{sync|x}]"),
    same("script help", "script help"),
    same("script kill", "script kill"),
    same("script load", "script load {ONE|nonsense}"),
    same("publish", "publish c $"),
    same("spublish", "spublish c $"),
    same("pubsub channels", "pubsub channels [*]"),
    same("pubsub help", "pubsub help"),
    same("pubsub numpat", "pubsub numpat"),
    same("pubsub numsub", "pubsub numsub [a b]"),
    same("pubsub shardchannels", "pubsub shardchannels"),
    same("pubsub shardnumsub", "pubsub shardnumsub a"),
    same("config get", "config get {max*|nothing|save timeout}"),
    same("config help", "config help"),
    same("dbsize", "dbsize"),
    alike("info", "info [{server|nothing|everything}]"),
    alike("lastsave", "lastsave"),
    same("latency doctor", "latency doctor"),
    same("latency graph", "latency graph command"),
    same("latency help", "latency help"),
    alike("latency histogram", "latency histogram {get set|nothing}"),
    same("latency history", "latency history command"),
    same("latency latest", "latency latest"),
    same("lolwut", "lolwut [version {9|5 1 1 1}]"),
    alike("memory doctor", "memory doctor"),
    same("memory help", "memory help"),
    alike("memory malloc-stats", "memory malloc-stats"),
    alike("memory stats", "memory stats"),
    alike("memory usage", "memory usage @s"),
    same("module help", "module help"),
    same("module list", "module list"),
    same("replicaof", "replicaof no one"),
    same("slaveof", "slaveof no one"),
    same("role", "role"),
    alike("slowlog get", "slowlog get"),
    same("slowlog help", "slowlog help"),
    alike("slowlog len", "slowlog len"),
    // At the end: rarely picked on purpose by tests that want data.
    same("flushall", "flushall [{sync|async|x}]"),
    same("flushdb", "flushdb [{sync|async|x}]"),
];

/// Words that hold what the grammar uses itself.
const WORDS: &[(&str, &str)] = &[
    ("SCRIPT", "return"),
    ("GETS", "return redis.call('get', KEYS[1])"),
    ("NESTED", "return {1, {2, false, {}}, 'a'}"),
    ("FALSE", "return false"),
    ("ONE", "return 1"),
    ("ONE_SHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"),
    (
        "LIBRARY",
        "#!lua name=lib\nredis.register_function{function_name='f', callback=function(k) return k end, flags={'no-writes'}}",
    ),
    ("FROM_A", "[a"),
    ("BEHIND_A", "(a"),
    ("TO_C", "[c"),
    ("BEFORE_C", "(c"),
    ("ABOVE_2", "(2"),
    ("BELOW_3", "(3"),
    ("PLUS", "+"),
    ("TILDE", "~"),
];

impl Sample {
    /// One request of this pattern: its arguments.
    pub fn request(&self, random: &mut Random) -> Vec<Vec<u8>> {
        let mut words = Vec::new();
        let rest = sequence(self.pattern, random, Some(&mut words));
        assert_eq!(rest, "", "{}", self.pattern);
        words
    }
}

/// Writes words up to the bracket or bar that ends the sequence, into nowhere if it was not chosen; says what is left.
fn sequence<'a>(mut rest: &'a str, random: &mut Random, mut words: Option<&mut Vec<Vec<u8>>>) -> &'a str {
    loop {
        rest = rest.trim_start_matches(' ');
        match rest.as_bytes().first() {
            None | Some(b']' | b')' | b'}' | b'|') => return rest,
            Some(b'[') => {
                let chosen = words.as_deref_mut().filter(|_| random.one_in(2));
                rest = &sequence(&rest[1..], random, chosen)[1..];
            }
            Some(b'(') => {
                let group = &rest[1..];
                for _ in 0..1 + random.below(3) {
                    rest = &sequence(group, random, words.as_deref_mut())[1..];
                }
            }
            Some(b'{') => rest = choice(rest, random, words.as_deref_mut()),
            Some(_) => {
                let end = rest.find([' ', '|', ']', ')', '}']).unwrap_or(rest.len());
                if let Some(words) = words.as_deref_mut() {
                    words.push(word(&rest[..end], random));
                }
                rest = &rest[end..];
            }
        }
    }
}

fn choice<'a>(group: &'a str, random: &mut Random, mut words: Option<&mut Vec<Vec<u8>>>) -> &'a str {
    // Once to count, once to write.
    let mut branches = 0;
    let mut rest = group;
    while rest.starts_with(['{', '|']) {
        rest = sequence(&rest[1..], random, None);
        branches += 1;
    }
    let chosen = random.below(branches);
    rest = group;
    for branch in 0..branches {
        let words = words.as_deref_mut().filter(|_| branch == chosen);
        rest = sequence(&rest[1..], random, words);
    }
    &rest[1..]
}

fn word(pattern: &str, random: &mut Random) -> Vec<u8> {
    match pattern {
        "$" => value(random),
        "%" => random.pick(&["a", "b", "c", "d", "1", ""]).as_bytes().to_vec(),
        "#" => random.pick(&["0", "1", "2", "-1", "5", "-3", "x"]).as_bytes().to_vec(),
        "+" => (1 + random.below(4)).to_string().into_bytes(),
        "&" => random.pick(&["13.3", "2.25", "-71", "200"]).as_bytes().to_vec(),
        "~" => random.pick(&["0", "1", "-2.5", "3e5", "0.1", "inf", "x"]).as_bytes().to_vec(),
        _ => match pattern.strip_prefix('@') {
            Some(kind) => key(kind, random),
            None => {
                WORDS.iter().find(|(name, _)| *name == pattern).map_or(pattern, |(_, word)| word).as_bytes().to_vec()
            }
        },
    }
}

fn key(kind: &str, random: &mut Random) -> Vec<u8> {
    let kind = if random.one_in(12) { random.pick(&["s", "h", "l", "e", "z", "x", "g", "none"]) } else { kind };
    format!("{kind}:{}", random.below(3)).into_bytes()
}

fn value(random: &mut Random) -> Vec<u8> {
    let len = random.pick(&[0, 1, 5, 40, 300]);
    match random.below(4) {
        0 => random.bytes(len),
        1 => b"1\r\n$-1\r\n".to_vec(),
        2 => random.between(-1000, 1000).to_string().into_bytes(),
        _ => b"value".repeat(len / 5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_expand() {
        let mut random = Random::from_seed(1);
        let sample = same("x", "x {1 a|2 a b} [opt [inner]] (k v) end");
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let words: Vec<_> =
                sample.request(&mut random).into_iter().map(|word| String::from_utf8(word).unwrap()).collect();
            seen.insert(words.join(" "));
        }
        // Two choices, three ways of the options, one to three repetitions.
        assert_eq!(seen.len(), 18, "{seen:?}");
        assert!(seen.contains("x 2 a b opt inner k v k v end"));
        for sample in SAMPLES {
            (0..50).for_each(|_| assert!(!sample.request(&mut random).is_empty()));
        }
    }
}
