//! Requests → calls, answers → what is held, and calls made of answers.

use proptest::prelude::*;

use super::*;
use crate::protocol::request::{Decoded, Limits};
use crate::protocol::resp::decode::Decoder;

fn with_request<T>(line: &str, act: impl FnOnce(&Request<'_>) -> T) -> T {
    let (mut decoder, line) = (Decoder::default(), format!("{line}\r\n"));
    match decoder.decode(line.as_bytes(), &Limits::default()) {
        Decoded::Request { request, .. } => act(&request),
        other => panic!("{line}: {other:?}"),
    }
}

fn call(line: &str) -> Option<Call> {
    with_request(line, |request| Rewrite::of(request).map(|rewrite| rewrite.call(request, 1234, Vec::new())))
}

/// A call in words; the sets are `+` and `-`, and the script's name stands where its digest does.
fn told(call: &Call) -> String {
    let words: Vec<String> = Arguments::of(call.frame())
        .skip(2)
        .map(|word| match word {
            ADDED => "+".to_owned(),
            REMOVED => "-".to_owned(),
            word => String::from_utf8_lossy(word).into_owned(),
        })
        .collect();
    format!("{:?} {}", call.script, words.join(" "))
}

/// `check("set k v", "Set 3 k + - SET 0 1234 v")`; nothing where the request stays as it is.
#[track_caller]
fn check(line: &str, expected: &str) {
    let call = call(line);
    assert_eq!(call.as_ref().map(told).unwrap_or_default(), expected, "{line}");
    let Some(mut call) = call else { return };
    assert_eq!(call.time(), 1234);
    // Whole frames, both ways.
    let mut text = Vec::new();
    call.write_text(&mut text);
    let args = Arguments::of(call.frame()).count();
    for frame in [call.frame(), &text] {
        let decoded = |request: &Request<'_>| (request.command.name, request.args as usize);
        let told = match Decoder::default().decode(frame, &Limits::default()) {
            Decoded::Request { consumed, request } if consumed == frame.len() => decoded(&request),
            other => panic!("{other:?}"),
        };
        assert!(told == ("evalsha", args) || told == ("eval", args), "{told:?}");
    }
    for time in [7, 999_999_999_999_999] {
        call.set_time(time);
        assert_eq!(call.time(), time);
        assert_eq!(told(&call), expected.replace("1234", &time.to_string()));
    }
}

#[test]
fn strings_and_keys() {
    check("get k", "Get 3 k + - GET 0 1234");
    check("SET k v", "Set 3 k + - SET 0 1234 v");
    check("set k v EX 10 nx get", "Set 3 k + - SET nx 1234 v EX 10 nx get");
    check("set k xx XX", "Set 3 k + - SET xx 1234 xx XX");
    check("set k v keepttl", "Set 3 k + - SET 0 1234 v keepttl");
    check("setex k 5 v", "Set 3 k + - SETEX 0 1234 5 v");
    check("setnx k v", "Set 3 k + - SETNX nx 1234 v");
    check("getset k v", "Set 3 k + - GETSET 0 1234 v");
    check("mset a 1 b 2", "SetMany 4 a b + - MSET 2 1234 1 2");
    check("del k", "Remove 3 k - + DEL 0 1234");
    check("unlink a b", "Remove 4 a b - + UNLINK 0 1234");
    check("getdel a", "Remove 3 a - + GETDEL 0 1234");
}

#[test]
fn fields_and_members() {
    check("hget h f", "GetField 3 h + - HGET 1 1234 f");
    check("sismember s m", "GetField 3 s + - SISMEMBER 1 1234 m");
    check("zscore z m", "GetField 3 z + - ZSCORE 1 1234 m");
    check("hset h f v g w", "Put 3 h + - HSET 0 2 1234 0 f v g w");
    check("hmset h f v", "Put 3 h + - HMSET 0 1 1234 0 f v");
    check("sadd s a b c", "Put 3 s + - SADD 0 3 1234 0 a b c");
    check("zadd z NX ch 1 a 2 b", "Put 3 z + - ZADD 2 2 1234 0 NX ch 1 a 2 b");
    check("zadd z incr 1 a", "Run 3 z + - ZADD k 1234 0 ZSCORE 1 a z incr 1 a");
    check("hdel h f g", "RemoveFields 3 h - + HDEL 2 1234 f g");
    check("srem s a", "RemoveFields 3 s - + SREM 1 1234 a");
    check("zrem z a", "RemoveFields 3 z - + ZREM 1 1234 a");
    check("hincrby h f 1", "Run 3 h + - HINCRBY k 1234 0 HEXISTS 1 f h f 1");
    check("geoadd g 1 2 a 3 4 b", "Run 3 g + - GEOADD k 1234 0 ZSCORE 2 a b g 1 2 a 3 4 b");
    check("geoadd g nx 1 2 a", "Run 3 g + - GEOADD k 1234 0 ZSCORE 1 a g nx 1 2 a");
    check("smove a b m", "Run 4 a b + - SMOVE kk 1234 1 SISMEMBER 1 m a b m");
}

#[test]
fn what_changes_a_key() {
    check("incr k", "Run 3 k + - INCR k 1234 0  0 k");
    check("expire k 5", "Run 3 k + - EXPIRE k 1234 1  0 k 5");
    check("rename a b", "Run 4 a b + - RENAME ko 1234 0  0 a b");
    check("copy a b replace", "Run 4 a b + - COPY -o 1234 1  0 a b replace");
    check("bitop and d a b", "Run 5 d a b + - BITOP o-- 1234 0  0 and d a b");
    check("zunionstore d 2 a b", "Run 5 d a b + - ZUNIONSTORE o-- 1234 0  0 d 2 a b");
    check("sort a by x store d", "Run 4 a d + - SORT -o 1234 0  0 a by x store d");
    check("lpush l a", "Run 3 l + - LPUSH k 1234 0  0 l a");
    check("lpop l 2", "Stamp 3 l + - STAMP 0 1234");
    check("eval x 2 a b", "Stamp 4 a b + - STAMP 0 1234");
    check("xadd x * a b", "Stamp 3 x + - STAMP 0 1234");
}

#[test]
fn what_stays_as_it_is() {
    for line in
        ["mget a b", "hgetall h", "ttl k", "getex k", "keys *", "flushall", "eval x 0", "script flush", "sort a"]
    {
        check(line, "");
    }
    // Wrong ones are the datastore's to refuse, and the sets are not to be noted in themselves.
    for line in ["hset h f v g", "zadd z nx 1", "zadd z 1 a 2", "del ._add-set", "zscore ._rem-set_x f"] {
        check(line, "");
    }
}

#[test]
fn more_arguments_than_a_script_can_run() {
    let many = "x ".repeat(7000);
    assert_eq!(call(&format!("lpush l {many}")).map(|call| call.script), Some(Script::Stamp));
    assert_eq!(call(&format!("sadd l {many}")).map(|call| call.script), Some(Script::Put));
}

#[test]
fn answers() {
    let check = |reply: &str, expected: Option<(Status, u64, &str, Option<u64>)>| {
        let held = Held::of(reply.as_bytes());
        assert!(held.is_none_or(|held| held.changed == if reply.starts_with("*5") { 16 } else { 0 }), "{reply}");
        let told = held.map(|held| (held.status, held.time, std::str::from_utf8(held.value).unwrap(), held.ttl));
        assert_eq!(told, expected, "{reply}");
    };
    let (exists, removed, unknown) = (Status::Exists, Status::Removed, Status::Unknown);
    check("*3\r\n$1\r\nE\r\n$2\r\n17\r\n$1\r\nv\r\n", Some((exists, 17, "$1\r\nv\r\n", None)));
    check("*3\r\n$1\r\nR\r\n$2\r\n17\r\n$-1\r\n", Some((removed, 17, "$-1\r\n", None)));
    check("*3\r\n$1\r\nX\r\n:0\r\n$-1\r\n", Some((unknown, 0, "$-1\r\n", None)));
    check("*5\r\n$1\r\nE\r\n$2\r\n17\r\n:1\r\n:250\r\n$2\r\n16\r\n", Some((exists, 17, ":1\r\n", Some(250))));
    check("*5\r\n$1\r\nE\r\n$2\r\n17\r\n:1\r\n:-1\r\n$2\r\n16\r\n", Some((exists, 17, ":1\r\n", None)));
    check("*5\r\n$1\r\nE\r\n$2\r\n17\r\n:1\r\n:0\r\n$2\r\n16\r\n", Some((exists, 17, ":1\r\n", Some(1))));
    // A time with a fraction, or beyond what a score holds, is none that we ever gave.
    check("*3\r\n$1\r\nE\r\n$4\r\n17.5\r\n$1\r\nv\r\n", Some((unknown, 0, "$1\r\nv\r\n", None)));
    check("*3\r\n$1\r\nE\r\n$16\r\n9999999999999999\r\n$1\r\nv\r\n", Some((unknown, 0, "$1\r\nv\r\n", None)));
    for reply in ["-WRONGTYPE no\r\n", "+OK\r\n", "*3\r\n$1\r\nE\r\n$2\r\n17\r\n", "*3\r\n$1\r\nQ\r\n:0\r\n$-1\r\n", ""]
    {
        check(reply, None);
    }
}

#[test]
fn writes_that_came_too_late() {
    let check = |line: &str, reply: &str, expected: &[u64]| {
        let rewrite = with_request(line, |request| Rewrite::of(request).unwrap());
        let times: Vec<u64> = rewrite.late_behind(reply.as_bytes()).into_iter().flatten().collect();
        assert_eq!(times, expected, "{line}: {reply}");
    };
    check("set k v", "*2\r\n$1\r\nO\r\n$2\r\n17\r\n", &[17]);
    check("mset a 1 b 2", "*3\r\n$1\r\nO\r\n$2\r\n17\r\n$1\r\n9\r\n", &[17, 9]);
    check("mset a 1 b 2", "*3\r\n$1\r\nO\r\n$2\r\n17\r\n$3\r\n9.5\r\n", &[17, 0]);
    for reply in
        ["*2\r\n$1\r\nE\r\n$2\r\n17\r\n", "*2\r\n$1\r\nO\r\n$3\r\n1.5\r\n", "*1\r\n$1\r\nO\r\n", "$-1\r\n", "+OK\r\n"]
    {
        check("set k v", reply, &[]);
    }
    // A member and its score.
    check("zpopmin z", "*2\r\n$1\r\nO\r\n$2\r\n17\r\n", &[]);
}

#[test]
fn what_says_ok_wherever_it_is_executed() {
    let ok = ["set k v", "set k v ex 5 nx", "setex k 5 v", "psetex k 5 v", "mset a 1 b 2", "hmset h f v"];
    let other = ["set k v px 5 GET", "setnx k v", "getset k v", "hset h f v", "del k", "incr k"];
    for (lines, expected) in [(ok, true), (other, false)] {
        for line in lines {
            let rewrite = with_request(line, |request| Rewrite::of(request).unwrap());
            assert_eq!(rewrite.says_ok, expected, "{line}");
        }
    }
}

#[test]
fn replies_as_clients_know_them() {
    let check = |line: &str, reply: &str, expected: &str| {
        let rewrite = with_request(line, |request| Rewrite::of(request).unwrap());
        let mut scratch = Vec::new();
        let plain = plain(rewrite, reply.as_bytes(), &mut scratch);
        assert_eq!(std::str::from_utf8(plain).unwrap(), expected, "{line}");
    };
    check("get k", "*3\r\n$1\r\nE\r\n$2\r\n17\r\n$1\r\nv\r\n", "$1\r\nv\r\n");
    check("get k", "-WRONGTYPE no\r\n", "-WRONGTYPE no\r\n");
    check("zscore z m", "*3\r\n$1\r\nX\r\n:0\r\n$-1\r\n", "$-1\r\n");
    check("sismember s m", "*3\r\n$1\r\nX\r\n:0\r\n:1\r\n", ":1\r\n");
    check("incr k", ":7\r\n", ":7\r\n");
    check("incr k", "$19\r\n9223372036854775807\r\n", ":9223372036854775807\r\n");
    check("getset k v", "$1\r\n7\r\n", "$1\r\n7\r\n");
}

/// What a read's answer makes of it for a replica that is behind.
#[test]
fn repairs() {
    let check = |line: &str, reply: &str, expected: &str| {
        let read = call(line).unwrap();
        let held = Held::of(reply.as_bytes()).unwrap();
        assert_eq!(read.mend(&held).as_ref().map(told).unwrap_or_default(), expected, "{line}");
    };
    let exists = "*3\r\n$1\r\nE\r\n$2\r\n17\r\n$1\r\nv\r\n";
    let lives = "*5\r\n$1\r\nE\r\n$2\r\n17\r\n$1\r\nv\r\n:250\r\n$1\r\n0\r\n";
    let removed = "*3\r\n$1\r\nR\r\n$2\r\n17\r\n$-1\r\n";
    check("get k", exists, "Set 3 k + - SET 0 17 v");
    check("get k", lives, "Set 3 k + - SET 0 17 v PX 250");
    check("get k", removed, "Remove 3 k - + DEL 0 17");
    check("hget h f", exists, "Put 3 h + - HSET 0 1 17 0 f v");
    check("hget h f", lives, "Put 3 h + - HSET 0 1 17 250 f v");
    check("zscore z m", exists, "Put 3 z + - ZADD 0 1 17 0 v m");
    check("sismember s m", "*3\r\n$1\r\nE\r\n$2\r\n17\r\n:1\r\n", "Put 3 s + - SADD 0 1 17 0 m");
    check("hget h f", removed, "RemoveFields 3 h - + HDEL 1 17 f");
    check("zscore z m", removed, "RemoveFields 3 z - + ZREM 1 17 m");
    check("sismember s m", removed, "RemoveFields 3 s - + SREM 1 17 m");
    check("get k", "*3\r\n$1\r\nX\r\n:0\r\n$1\r\nv\r\n", "");
}

#[test]
fn reads_that_ask_for_more_and_removals_that_are_forgotten() {
    assert_eq!(told(&call("get k").unwrap().with_more()), "Get 3 k + - GET 0 1234 more");
    assert_eq!(told(&call("hget h f").unwrap().with_more()), "GetField 3 h + - HGET 1 1234 f more");
    assert_eq!(told(&call("del a b").unwrap().cleanup()), "Clean 4 a b + - CLEAN 0 1234");
    assert_eq!(told(&call("hdel h f g").unwrap().cleanup()), "Clean 3 h + - CLEAN 2 1234 f g");
}

proptest! {
    #[test]
    fn no_reply_panics(reply in prop::collection::vec(prop::sample::select(&b"*$:+-34EROX0129\r\n"[..]), 0..60)) {
        let held = Held::of(&reply);
        too_late(&reply);
        if let Some(held) = held {
            call("hget h f").unwrap().mend(&held);
            call("get h").unwrap().mend(&held);
        }
        let mut framed = b"*3\r\n$1\r\nE\r\n".to_vec();
        framed.extend_from_slice(&reply);
        Held::of(&framed);
    }
}
