//! Read repair's scripts: what they do to a Redis and answer. The embedded datastore, which has each of them as a function,
//! is told the same and must answer the same.

use dynomite_tests::samples::{Likeness, SAMPLES, SETUP};
use dynomite_tests::{Client, Datastore, Random, Value, random, resp};
use dynomite_user::embedded::redis::{Store, repair_scripts};
use dynomite_user::protocol::commands::Routing;
use dynomite_user::protocol::resp::repair::{Call, Held, Rewrite, is_unknown_script, plain};

use crate::embedded::{self, TEMPLATES, UNORDERED, UNORDERED_PAIRS, fill, now_millis};

/// A client whose requests are rewritten.
struct Stamping {
    client: Client,
    /// Is told the same; until something comes that it does not have.
    embedded: Option<Store>,
}

impl Stamping {
    fn of(datastore: &Datastore) -> Stamping {
        Stamping { client: datastore.client(), embedded: Some(Store::default().knowing(repair_scripts())) }
    }

    fn flush(&mut self) {
        self.client.ask("flushall");
        self.client.ask("script flush");
        self.embedded = Some(Store::default().knowing(repair_scripts()));
    }

    /// Redis' reply; the embedded datastore's is the same.
    #[track_caller]
    fn ask(&mut self, frame: &[u8]) -> Vec<u8> {
        self.client.send(frame);
        let reply = self.client.frame();
        let Some(store) = &mut self.embedded else { return reply };
        let (request, _) = Value::parse(frame).unwrap();
        let word = |word: &Value| match word {
            Value::Bulk(bytes) => bytes.clone(),
            other => panic!("{other:?} is no word of a request"),
        };
        let words: Vec<Vec<u8>> = request.elements().iter().map(word).collect();
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let mut ours = Vec::new();
        store.execute(&words, now_millis(), &mut ours);
        if [&b"-ERR unknown command"[..], b"-ERR this datastore has no"].iter().any(|text| ours.starts_with(text)) {
            self.embedded = None;
        } else {
            assert_eq!(comparable(words[0], &ours), comparable(words[0], &reply), "{}", frame.escape_ascii());
        }
        reply
    }

    /// The reply to a call, by its digest first.
    #[track_caller]
    fn run(&mut self, call: &Call) -> Vec<u8> {
        let reply = self.ask(call.frame());
        if !is_unknown_script(&reply) {
            return reply;
        }
        let mut text = Vec::new();
        call.write_text(&mut text);
        self.ask(&text)
    }

    /// The reply as it comes from the script, or from the request itself where it stays as it is.
    fn raw(&mut self, frame: &[u8], time: u64) -> Vec<u8> {
        let rewrite = super::decode(frame, |request| {
            let rewrite = Rewrite::of(&request)?;
            Some((rewrite, rewrite.call(&request, time, Vec::new())))
        });
        match rewrite {
            Ok(Some((rewrite, call))) if rewrite.follows() => {
                let reply = self.ask(frame);
                assert_eq!(self.run(&call), b"+OK\r\n");
                reply
            }
            Ok(Some((_, call))) => self.run(&call),
            _ => self.ask(frame),
        }
    }

    /// The reply as the client gets it.
    fn plain(&mut self, frame: &[u8], time: u64) -> Vec<u8> {
        let reply = self.raw(frame, time);
        let rewrite = super::decode(frame, |request| Rewrite::of(&request));
        match rewrite {
            Ok(Some(rewrite)) => plain(rewrite, &reply, &mut Vec::new()).to_vec(),
            _ => reply,
        }
    }
}

/// Without what is left to time or to chance.
fn comparable(name: &[u8], reply: &[u8]) -> String {
    let (value, _) = Value::parse(reply).unwrap();
    let name = String::from_utf8_lossy(name).to_lowercase();
    match (&value, name.as_str()) {
        (_, "ttl" | "pttl") => String::new(),
        // The fourth is how long the key has to live.
        (Value::Array(elements), "eval" | "evalsha") if elements.len() == 5 && elements[0].text().len() == 1 => {
            format!("{:?} {:?}", &elements[..3], elements[4])
        }
        (Value::Array(_), name) if UNORDERED.contains(&name) || name.starts_with("eval") => {
            format!("{:?}", embedded::sorted(value, false))
        }
        (Value::Array(_), name) if UNORDERED_PAIRS.contains(&name) => format!("{:?}", embedded::sorted(value, true)),
        _ => reply.escape_ascii().to_string(),
    }
}

/// `[E 5 v]`: arrays in brackets, `nil`, numbers and strings as they are.
fn told(value: &Value) -> String {
    match value {
        Value::Null => "nil".into(),
        Value::Array(elements) => format!("[{}]", elements.iter().map(told).collect::<Vec<_>>().join(" ")),
        Value::Integer(number) => number.to_string(),
        Value::Error(text) => text.split(' ').next().unwrap_or_default().to_owned(),
        value => value.text(),
    }
}

/// Steps are `time command → reply`; without a time the command goes to Redis as it is.
#[track_caller]
fn check(stamping: &mut Stamping, steps: &[(&str, &str)]) {
    stamping.flush();
    for (line, expected) in steps {
        let (time, command) = line.split_once(' ').unwrap();
        let reply = match time.parse() {
            Ok(time) => stamping.raw(&resp::request(command.split(' ')), time),
            Err(_) => stamping.ask(&resp::request(line.split(' '))),
        };
        let (reply, _) = Value::parse(&reply).unwrap();
        assert_eq!(told(&reply), *expected, "{line}, in {steps:?}");
    }
}

#[test]
fn keys() {
    let Some(redis) = Datastore::redis() else { return };
    let ours = &mut Stamping::of(&redis);
    // Nothing is known of a key that was written before there were times; its value is shown.
    check(ours, &[("5 get k", "[X 0 nil]"), ("set k v", "OK"), ("5 get k", "[X 0 v]")]);
    check(
        ours,
        &[
            ("5 set k v", "OK"),
            ("9 get k", "[E 5 v]"),
            ("zscore ._add-set k", "5"),
            ("4 set k older", "[O 5]"),
            ("5 set k same", "OK"),
            ("6 set k newer", "OK"),
            ("9 get k", "[E 6 newer]"),
        ],
    );
    // A removal is a time too.
    check(
        ours,
        &[
            ("5 set k v", "OK"),
            ("4 del k", "[O 5]"),
            ("6 del k", "1"),
            ("9 get k", "[R 6 nil]"),
            ("zscore ._add-set k", "nil"),
            ("5 set k older", "[O 6]"),
            ("5 del k", "0"),
            ("7 del k", "0"),
            ("9 get k", "[R 7 nil]"),
            ("8 set k back", "OK"),
            ("9 get k", "[E 8 back]"),
            ("zscore ._rem-set k", "nil"),
        ],
    );
    // What was never here is noted as removed, lest it comes back from elsewhere.
    check(ours, &[("5 del k", "0"), ("9 get k", "[R 5 nil]"), ("4 set k older", "[O 5]")]);
    // Gone by itself: its time is forgotten.
    check(
        ours,
        &[
            ("5 set k v", "OK"),
            ("5 hset h f v", "1"),
            ("del k h", "2"),
            ("6 get k", "[X 0 nil]"),
            ("6 get h", "[X 0 nil]"),
            ("zcard ._add-set", "0"),
            ("exists ._add-set_h", "0"),
        ],
    );
    check(ours, &[("5 unlink k", "0"), ("6 set k v", "OK"), ("7 getdel k", "v"), ("8 getdel k", "nil")]);
    check(
        ours,
        &[
            ("5 mset a 1 b 2", "OK"),
            ("6 get b", "[E 5 2]"),
            ("9 set a new", "OK"),
            ("8 mset a old b 3", "[O 9]"),
            ("9 get a", "[E 9 new]"),
            ("9 get b", "[E 8 3]"),
            ("8 del a b c", "[O 9]"),
            ("9 get b", "[R 8 nil]"),
            ("9 del a b c", "1"),
        ],
    );
    // All times that are newer, the latest first.
    let late = ("4 mset a x b x c x d x", "[O 7 5 6]");
    check(ours, &[("5 set a 1", "OK"), ("7 set b 2", "OK"), ("6 set c 3", "OK"), late, ("4 del a b c", late.1)]);
    check(ours, &[("5 hset h f v", "1"), ("6 get h", "WRONGTYPE"), ("6 set h v", "OK"), ("exists ._add-set_h", "0")]);
}

#[test]
fn options_of_set() {
    let Some(redis) = Datastore::redis() else { return };
    let ours = &mut Stamping::of(&redis);
    check(
        ours,
        &[
            ("5 set k v EX 100", "OK"),
            ("ttl k", "100"),
            ("6 set k w keepttl", "OK"),
            ("ttl k", "100"),
            ("7 set k x nx", "nil"),
            ("9 get k", "[E 6 w]"),
            ("4 set k x nx", "nil"),
            ("7 set k x xx get", "w"),
            ("9 get k", "[E 7 x]"),
            ("8 set k y nx get", "x"),
            ("9 get k", "[E 7 x]"),
            ("8 setnx k z", "0"),
            ("8 set k z px 5000", "OK"),
            ("9 getset k zz", "z"),
            ("ttl k", "-1"),
            ("10 setex k 50 e", "OK"),
            ("ttl k", "50"),
            ("11 get k", "[E 10 e]"),
            ("11 set k v what", "ERR"),
            ("11 set k v ex 0", "ERR"),
            ("11 get k", "[E 10 e]"),
        ],
    );
    check(ours, &[("5 set k v xx", "nil"), ("6 get k", "[X 0 nil]"), ("6 setnx k v", "1"), ("7 get k", "[E 6 v]")]);
    // A condition that holds does not excuse coming late.
    check(ours, &[("5 del k", "0"), ("4 set k v nx", "[O 5]"), ("6 set k v nx", "OK")]);
}

#[test]
fn fields() {
    let Some(redis) = Datastore::redis() else { return };
    let ours = &mut Stamping::of(&redis);
    check(
        ours,
        &[
            ("5 hset h a 1 b 2", "2"),
            ("9 hget h a", "[E 5 1]"),
            ("9 hget h c", "[X 0 nil]"),
            ("7 hmset h b 3 c 4", "OK"),
            ("zscore ._add-set h", "7"),
            // The field that is newer stays, the other one is written.
            ("6 hset h a 11 b 22", "[O 7]"),
            ("9 hget h a", "[E 6 11]"),
            ("9 hget h b", "[E 7 3]"),
            ("zscore ._add-set h", "7"),
            ("6 hdel h b", "[O 7]"),
            ("8 hdel h b x", "1"),
            ("9 hget h b", "[R 8 nil]"),
            ("9 hget h x", "[R 8 nil]"),
            ("7 hset h b back", "[O 8]"),
            ("9 hset h b back", "1"),
            ("9 hget h b", "[E 9 back]"),
            ("zscore ._rem-set_h b", "nil"),
        ],
    );
    let late = ("4 hset h a 2 b 2 c 2 d 2", "[O 7 5 6]");
    check(
        ours,
        &[("5 hset h a 1", "1"), ("7 hset h b 1", "1"), ("6 hset h c 1 e 1", "2"), late, ("4 hdel h a b c d", late.1)],
    );
    // The whole key's removal is every field's.
    check(
        ours,
        &[
            ("5 hset h a 1", "1"),
            ("7 del h", "1"),
            ("exists ._add-set_h", "0"),
            ("9 hget h a", "[R 7 nil]"),
            ("6 hset h a 1", "[O 7]"),
            ("8 hset h b 2", "1"),
            ("9 hget h a", "[X 0 nil]"),
            ("9 hget h b", "[E 8 2]"),
        ],
    );
    // The last field takes the key with it.
    check(
        ours,
        &[
            ("5 hset h a 1", "1"),
            ("6 hdel h a", "1"),
            ("zscore ._add-set h", "nil"),
            ("9 hget h a", "[R 6 nil]"),
            ("5 hdel h a", "0"),
        ],
    );
    check(
        ours,
        &[
            ("set k v", "OK"),
            ("5 hset k a 1", "WRONGTYPE"),
            ("5 hget k a", "WRONGTYPE"),
            ("5 hdel k a", "WRONGTYPE"),
            ("exists ._add-set", "0"),
        ],
    );
    check(
        ours,
        &[("hset h a old", "1"), ("5 hget h a", "[X 0 old]"), ("5 hset h b 1", "1"), ("6 hget h a", "[X 0 old]")],
    );
}

#[test]
fn members() {
    let Some(redis) = Datastore::redis() else { return };
    let ours = &mut Stamping::of(&redis);
    check(
        ours,
        &[
            ("5 sadd s a b", "2"),
            ("6 sadd s b c", "1"),
            ("9 sismember s a", "[E 5 1]"),
            ("9 sismember s b", "[E 6 1]"),
            ("9 sismember s z", "[X 0 0]"),
            ("5 srem s b", "[O 6]"),
            ("7 srem s b", "1"),
            ("9 sismember s b", "[R 7 0]"),
            ("srem s a c", "2"),
            ("9 sismember s a", "[X 0 0]"),
        ],
    );
    check(
        ours,
        &[
            ("5 zadd z 1 a 2 b", "2"),
            ("9 zscore z a", "[E 5 1]"),
            ("6 zadd z ch 5 a 2 b", "1"),
            // B stays as it was: its time does, too.
            ("9 zscore z b", "[E 5 2]"),
            ("7 zadd z nx 9 a 9 c", "1"),
            ("9 zscore z a", "[E 6 5]"),
            ("9 zscore z c", "[E 7 9]"),
            ("8 zadd z xx gt ch 4 a 10 c", "1"),
            ("9 zscore z a", "[E 6 5]"),
            ("9 zscore z c", "[E 8 10]"),
            ("8 zadd z xx 4 none", "0"),
            ("9 zscore z none", "[X 0 nil]"),
            ("7 zadd z 1.5 c", "[O 8]"),
            ("9 zadd z 1.5 c x d", "ERR"),
            ("9 zadd z 1.5 c", "0"),
            ("9 zscore z c", "[E 9 1.5]"),
            ("9 zrem z c d", "1"),
            ("10 zscore z c", "[R 9 nil]"),
            ("9 zadd z incr 2 a", "7"),
            ("10 zscore z a", "[E 9 7]"),
            ("9 zadd z xx incr 2 zzz", "nil"),
        ],
    );
    check(ours, &[("5 zadd z xx 1 a", "0"), ("exists ._add-set", "0")]);
    check(ours, &[("set z v", "OK"), ("5 zadd z nx 1 a", "WRONGTYPE")]);
}

/// Commands that change what they find are run whatever the time, which never goes back.
#[test]
fn changes() {
    let Some(redis) = Datastore::redis() else { return };
    let ours = &mut Stamping::of(&redis);
    check(
        ours,
        &[
            ("5 set k 1", "OK"),
            ("7 incr k", "2"),
            ("9 get k", "[E 7 2]"),
            ("6 incrby k 3", "5"),
            ("9 get k", "[E 7 5]"),
            ("8 expire k 100", "1"),
            ("9 get k", "[E 8 5]"),
            ("9 expire k 100 nx", "0"),
            ("9 get k", "[E 8 5]"),
            ("9 rename k j", "OK"),
            ("10 get k", "[R 9 nil]"),
            ("10 get j", "[E 9 5]"),
            ("10 append j x", "2"),
            ("11 incr j", "ERR"),
            ("11 get j", "[E 10 5x]"),
            ("11 pexpireat j 1", "1"),
            ("12 get j", "[R 11 nil]"),
        ],
    );
    check(
        ours,
        &[
            ("5 del k", "0"),
            ("7 rpush k a b", "2"),
            ("zscore ._rem-set k", "nil"),
            ("zscore ._add-set k", "7"),
            ("6 del k", "[O 7]"),
            ("8 lpop k", "b"),
            ("9 rpop k", "a"),
            ("zscore ._rem-set k", "9"),
            ("10 rpop k", "nil"),
            ("zscore ._rem-set k", "9"),
        ]
        .map(|(line, reply)| match line {
            "8 lpop k" => (line, "a"),
            "9 rpop k" => (line, "b"),
            _ => (line, reply),
        }),
    );
    check(
        ours,
        &[
            ("5 hincrby h f 2", "2"),
            ("6 hget h f", "[E 5 2]"),
            ("6 hsetnx h f 3", "0"),
            ("6 hget h f", "[E 5 2]"),
            ("6 zincrby z 2 m", "2"),
            ("9 zscore z m", "[E 6 2]"),
            ("7 sadd a m n", "2"),
            ("8 smove a b m", "1"),
            ("9 sismember a m", "[R 8 0]"),
            ("9 sismember b m", "[E 8 1]"),
            ("9 geoadd g 1 2 x 3 4 y", "2"),
            ("zscore ._add-set_g y", "9"),
        ],
    );
    // Beyond what Lua's numbers hold.
    check(
        ours,
        &[
            ("5 set k 9223372036854775800", "OK"),
            ("6 incrby k 7", "9223372036854775807"),
            ("7 incr k", "ERR"),
            ("7 decrby k 9223372036854775807", "0"),
            ("7 hincrby h f -9007199254740993", "-9007199254740993"),
        ],
    );
    check(
        ours,
        &[
            ("5 sadd a m n", "2"),
            ("5 hset d f v", "1"),
            ("6 sunionstore d a", "2"),
            ("zscore ._add-set d", "6"),
            ("zscore ._add-set a", "5"),
            ("exists ._add-set_d", "0"),
            ("7 sdiffstore d a a", "0"),
            ("zscore ._rem-set d", "7"),
            ("8 msetnx x 1 y 2", "1"),
            ("9 msetnx y 2 z 3", "0"),
            ("9 get x", "[E 8 1]"),
            ("zscore ._add-set y", "8"),
        ],
    );
    // Sent as it is, stamped behind.
    check(
        ours,
        &[
            ("5 bitfield k set u8 0 65", "[0]"),
            ("9 get k", "[E 5 A]"),
            ("6 xadd x 1-1 a b", "1-1"),
            ("zscore ._add-set x", "6"),
            ("7 eval redis.call('del',KEYS[1]) 1 k", "nil"),
            ("9 get k", "[R 7 nil]"),
        ],
    );
}

#[test]
fn removals_are_forgotten_when_told_and_not_before_their_time() {
    let Some(redis) = Datastore::redis() else { return };
    let ours = &mut Stamping::of(&redis);
    let cleanup = |line: &str, time: u64| {
        let frame = resp::request(line.split(' '));
        super::decode(&frame, |request| Rewrite::of(&request).unwrap().call(&request, time, Vec::new()).cleanup())
            .unwrap()
    };
    check(ours, &[("5 del a b c", "0"), ("7 del c", "0"), ("5 hdel h f g", "0"), ("8 hdel h g", "0")]);
    assert_eq!(ours.run(&cleanup("del a b c", 5)), b":2\r\n");
    assert_eq!(ours.run(&cleanup("hdel h f g", 5)), b":1\r\n");
    assert_eq!(told(&ours.client.ask("zrange ._rem-set 0 -1")), "[c]");
    assert_eq!(told(&ours.client.ask("zrange ._rem-set_h 0 -1")), "[g]");
    assert!((1..=24 * 60 * 60).contains(&ours.client.ask("ttl ._rem-set_h").integer().unwrap()), "removed fields");
}

/// What a repair wants to know besides: how long the key has to live, and when it was last changed in place.
#[test]
fn more() {
    let Some(redis) = Datastore::redis() else { return };
    let mut ours = Stamping::of(&redis);
    let run = |ours: &mut Stamping, line: &str, time| ours.raw(&resp::request(line.split(' ')), time);
    let more = |ours: &mut Stamping, line: &str| {
        let frame = resp::request(line.split(' '));
        let call = super::decode(&frame, |request| Rewrite::of(&request).unwrap().call(&request, 9, Vec::new()));
        let frame = ours.run(&call.unwrap().with_more());
        let held = Held::of(&frame).unwrap();
        (held.time, held.ttl.map(|ttl| ttl / 1000), held.changed)
    };
    run(&mut ours, "set k 1 px 99500", 5);
    assert_eq!(more(&mut ours, "get k"), (5, Some(99), 0));
    run(&mut ours, "incr k", 6);
    assert_eq!(more(&mut ours, "get k"), (6, Some(99), 6));
    run(&mut ours, "incr k", 5);
    assert_eq!(more(&mut ours, "get k"), (6, Some(99), 6));
    run(&mut ours, "set k 1", 7);
    assert_eq!(more(&mut ours, "get k"), (7, None, 6), "no longer of interest");
    run(&mut ours, "hincrby h f 1", 5);
    run(&mut ours, "bitfield b incrby u8 0 1", 5);
    run(&mut ours, "expire h 0", 9);
    assert_eq!(more(&mut ours, "hget h f"), (9, None, 9));
    assert_eq!(more(&mut ours, "get b"), (5, None, 5));
    for time in 600_001..600_009 {
        run(&mut ours, "set k 1", time);
    }
    assert_eq!(told(&ours.client.ask("zrange ._run-set 0 -1")), "[h]", "those of the last ten minutes");
}

/// Names of keys that expired are found and forgotten, without anybody asking for them.
#[test]
fn notes_do_not_pile_up() {
    let Some(redis) = Datastore::redis() else { return };
    let mut ours = Stamping::of(&redis);
    let day = 24 * 60 * 60 * 1000;
    for time in 0..4000_u64 {
        // Each key is written once and gone before the next one.
        ours.raw(&resp::request(["hset", &format!("h:{time}"), "f", "v"]), time);
        ours.raw(&resp::request(["del", &format!("gone:{time}")]), time);
        ours.client.ask(&format!("del h:{time}"));
    }
    let count = |ours: &mut Stamping, key: &str| ours.client.ask(&format!("zcard {key}")).integer().unwrap();
    let kept = count(&mut ours, "._add-set");
    assert!(kept < 1000, "{kept} of 4000 keys that are gone are still noted");
    let fields = ours.client.ask("keys ._add-set_*");
    assert!(matches!(&fields, Value::Array(names) if names.len() as i64 <= kept), "{fields:?}");
    assert_eq!(count(&mut ours, "._rem-set"), 4000, "a day has not passed");
    for time in 0..4000 {
        ours.raw(b"*3\r\n$3\r\nset\r\n$1\r\nk\r\n$1\r\nv\r\n", 2 * day + time);
    }
    assert_eq!(count(&mut ours, "._rem-set"), 0, "a day later");
}

/// More fields than Lua's stack holds.
#[test]
fn many_fields_at_once() {
    let Some(redis) = Datastore::redis() else { return };
    let mut ours = Stamping::of(&redis);
    let fields: Vec<String> = (0..20_000).map(|n| format!("f{n}")).collect();
    let with = |head: &[&str], each: &dyn Fn(&String) -> Vec<String>| {
        let words: Vec<String> = head.iter().map(ToString::to_string).chain(fields.iter().flat_map(each)).collect();
        resp::request(words)
    };
    assert_eq!(ours.raw(&with(&["hset", "h"], &|f| vec![f.clone(), "v".into()]), 5), b":20000\r\n");
    assert_eq!(ours.raw(&with(&["hmset", "h"], &|f| vec![f.clone(), "v".into()]), 5), b"+OK\r\n");
    assert_eq!(ours.raw(&with(&["zadd", "z", "ch"], &|f| vec!["1".into(), f.clone()]), 5), b":20000\r\n");
    assert_eq!(ours.raw(&with(&["sadd", "s"], &|f| vec![f.clone()]), 5), b":20000\r\n");
    assert_eq!(ours.raw(&with(&["srem", "s"], &|f| vec![f.clone()]), 6), b":20000\r\n");
    assert_eq!(ours.raw(&with(&["rpush", "l"], &|f| vec![f.clone()]), 6), b":20000\r\n");
    assert_eq!(ours.raw(&with(&["mset"], &|f| vec![f.clone(), "v".into()]), 5), b"+OK\r\n");
    assert_eq!(ours.raw(&with(&["del"], &|f| vec![f.clone()]), 6), b":20000\r\n");
}

/// To C nodes these bytes are what their own scripts answer.
#[test]
fn answers_byte_by_byte() {
    let Some(redis) = Datastore::redis() else { return };
    let mut ours = Stamping::of(&redis);
    let ask = |ours: &mut Stamping, line: &str, time| ours.raw(&resp::request(line.split(' ')), time);
    let now = 1_795_332_624_330;
    ask(&mut ours, "set k v", now);
    assert_eq!(ask(&mut ours, "get k", now), b"*3\r\n$1\r\nE\r\n$13\r\n1795332624330\r\n$1\r\nv\r\n");
    ask(&mut ours, "del k", now);
    assert_eq!(ask(&mut ours, "get k", now), b"*3\r\n$1\r\nR\r\n$13\r\n1795332624330\r\n$-1\r\n");
    assert_eq!(ask(&mut ours, "get none", now), b"*3\r\n$1\r\nX\r\n:0\r\n$-1\r\n");
    ask(&mut ours, "sadd s m", now);
    assert_eq!(ask(&mut ours, "sismember s m", now), b"*3\r\n$1\r\nE\r\n$13\r\n1795332624330\r\n:1\r\n");
}

/// What the embedded datastore answers, and what it notes, after whatever commands at whatever times.
#[test]
fn the_embedded_datastore_runs_them_like_a_redis() {
    let Some(redis) = crate::redis(&["--databases", "1"]) else { return };
    let mut ours = Stamping::of(&redis);
    let mut random = Random::from_seed(random::seed());
    // Floats of twenty digits differ in the last one. Redis counts keys that have expired until it comes by them.
    let is_exact =
        |template: &&str| !template.starts_with("spop") && !template.contains("incrbyfloat") && *template != "dbsize";
    let templates: Vec<&str> = TEMPLATES.lines().flat_map(|line| line.split('|')).filter(is_exact).collect();
    for _ in 0..30 {
        ours.flush();
        let mut now = 1_795_332_624_330;
        for _ in 0..300 {
            now += random.below(3) as u64;
            let time = match random.below(100) {
                0 => now - 24 * 60 * 60 * 1000,
                1..20 => now - random.below(20) as u64,
                _ => now,
            };
            let words = random.pick(&templates).split(' ').map(|word| fill(word, &mut random)).collect::<Vec<_>>();
            let frame = resp::request(&words);
            let more = super::decode(&frame, |request| {
                let rewrite = Rewrite::of(&request).filter(|rewrite| rewrite.is_read() || rewrite.is_removal())?;
                let call = rewrite.call(&request, time, Vec::new());
                Some(if rewrite.is_read() { call.with_more() } else { call.cleanup() })
            });
            // Some are no commands, to see what is said about it.
            let Ok(more) = more else { continue };
            ours.raw(&frame, time);
            if let Some(call) = more {
                ours.run(&call);
            }
        }
        assert!(ours.embedded.is_some());
        for index in ["._add-set", "._rem-set", "._run-set"] {
            for key in ["", "_h1", "_h2", "_h3", "_e1", "_e2", "_e3", "_z1", "_z2", "_z3", "_x1", "_x2"] {
                ours.ask(&resp::request(["zrange", &format!("{index}{key}"), "0", "-1", "withscores"]));
            }
        }
        ours.ask(&resp::request(["keys", "*"]));
    }
}

/// Every command, rewritten or not, says to its client what it says without read repair, and leaves the same data.
#[test]
fn clients_notice_nothing() {
    let (Some(redis), Some(other)) = (Datastore::redis(), Datastore::redis()) else { return };
    let (mut ours, mut direct) = (Stamping::of(&redis), other.client());
    let mut random = Random::from_seed(random::seed());
    let mut time = 1_795_332_624_330;
    for round in 0..30 {
        for line in SETUP {
            let frame = resp::request(line.split(' '));
            time += 1;
            ours.plain(&frame, time);
            direct.send(&frame);
            direct.frame();
        }
        for sample in SAMPLES {
            let frame = resp::request(sample.request(&mut random));
            // Who looks at the whole datastore sees our notes; what is left to chance or time differs in any case.
            let name = super::decode(&frame, |request| {
                let keyed = request.command.routing == Routing::Normal && request.key.is_some();
                keyed.then_some(request.command.name).filter(|name| *name != "spop")
            });
            let Ok(Some(name)) = name else { continue };
            // With scores that differ, Redis finds by name what its dice let it find.
            let by_name = frame.windows(3).any(|word| word.eq_ignore_ascii_case(b"lex"));
            if sample.likeness != Likeness::Bytes || by_name {
                continue;
            }
            time += 1;
            let reply = ours.plain(&frame, time);
            direct.send(&frame);
            let expected = direct.frame();
            let in_order = |frame: &[u8]| match name {
                "smembers" | "sdiff" | "sinter" | "sunion" => sorted(&Value::parse(frame).unwrap().0),
                _ => vec![frame.escape_ascii().to_string()],
            };
            assert_eq!(in_order(&reply), in_order(&expected), "round {round}: {}", frame.escape_ascii());
        }
    }
    let Value::Array(names) = direct.ask("keys *") else { panic!("no keys") };
    assert!(names.len() > 10);
    for name in names {
        let Value::Bulk(name) = name else { panic!("{name:?}") };
        let dump = |client: &mut Client| match client.call([b"type".as_slice(), &name]).text().as_str() {
            "set" => sorted(&client.call([b"smembers".as_slice(), &name])),
            "hash" => {
                let flat = client.call([b"hgetall".as_slice(), &name]);
                sorted(&Value::Array(flat.elements().chunks(2).map(|pair| Value::Array(pair.to_vec())).collect()))
            }
            // A dump of it tells when its consumers were seen.
            "stream" => sorted(&client.call([b"xrange".as_slice(), &name, b"-", b"+"])),
            _ => sorted(&client.call([b"dump".as_slice(), &name])),
        };
        assert_eq!(dump(&mut ours.client), dump(&mut direct), "{}", name.escape_ascii());
    }
}

/// Sets and hashes come in any order.
fn sorted(value: &Value) -> Vec<String> {
    let mut words: Vec<_> = match value {
        Value::Array(elements) => elements.iter().map(told).collect(),
        value => vec![told(value)],
    };
    words.sort();
    words
}
