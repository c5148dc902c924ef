//! Times, judging, and who is asked what in the end.

use super::times::{AHEAD_MILLIS, SLOTS};
use super::*;
use crate::coordinator::testing::{self, Recorder};
use crate::protocol::resp::encode;

#[test]
fn times_of_one_key_grow() {
    let mut times = Times::default();
    let mut next = |token, clock| times.next(&[token], clock);
    assert_eq!([next(1, 1000), next(1, 1000), next(1, 1000)], [1000, 1001, 1002]);
    assert_eq!(next(2, 1000), 1000, "another key has times of its own");
    assert_eq!(next(1, 5000), 5000);
    assert_eq!(next(1, 4000), 5001, "a clock that was set back");
    let hot = (0..10_000).map(|_| next(3, 1000)).max();
    assert_eq!(hot, Some(1000 + AHEAD_MILLIS));
    assert_eq!(next(3, 1000), 1000 + AHEAD_MILLIS, "never back");
}

#[test]
fn times_stay_ahead_of_what_was_seen() {
    let mut times = Times::default();
    times.see(&[1], 90_000);
    assert_eq!([times.next(&[1], 1000), times.next(&[1], 1000)], [90_001, 90_002]);
    times.see(&[1], 5);
    assert_eq!(times.next(&[1], 1000), 90_003);
    assert_eq!(times.next(&[1 + SLOTS as u32], 1000), 90_004, "a key that shares the place shares its times");
    let hot = (0..10_000).map(|_| times.next(&[1], 90_000)).max();
    assert_eq!(hot, Some(90_000 + AHEAD_MILLIS));
}

#[test]
fn keys_that_are_written_together_have_one_time() {
    let mut times = Times::default();
    times.see(&[2], 5000);
    assert_eq!(times.next(&[1, 2], 1000), 5001);
    assert_eq!(times.next(&[2, 1], 1000), 5002);
    assert_eq!(times.next(&[1], 1000), 5003);
}

/// What comes too late behind another write of ours must not come back over it.
#[test]
fn a_write_that_was_overtaken_is_not_sent_again() {
    let mut world = World::quorum();
    world.ask("set k old");
    let old = std::mem::take(&mut world.asked);
    world.ask("set k new");
    assert_eq!(world.reply(0, b"+OK\r\n"), "");
    assert_eq!(world.reply(1, b"+OK\r\n"), "");
    world.asked = old;
    assert_eq!(world.reply(0, &late(1000)), "");
    let error = "=-ERR Dynomite: Failed to achieve Quorum: newer writes of the key";
    assert_eq!(world.reply(1, &late(1000)), format!("{error} | =+OK"));
}

#[test]
fn writes_of_one_batch_keep_their_order_when_they_are_sent_again() {
    let sent = |time: u64, value: &str| {
        let again = format!("Set 3 k +- SET 0 {time} {value}");
        format!("{again} | 1:{again} | 2:{again}")
    };
    let begun = || {
        let mut world = World::quorum();
        world.ask("set k v");
        let first = std::mem::take(&mut world.asked);
        world.ask("set k w");
        let second = std::mem::replace(&mut world.asked, first);
        assert_eq!(world.reply(1, &late(5000)), "");
        assert_eq!(world.reply(2, &late(5000)), sent(5001, "v"));
        let again = world.asked.split_off(1);
        world.all(&late(5000));
        world.asked = second;
        (world, again)
    };
    // The other clock is ahead of both.
    let (mut world, again) = begun();
    assert_eq!(world.reply(1, &late(5000)), "");
    assert_eq!(world.reply(2, &late(5000)), sent(5002, "w"));
    world.asked.splice(..0, again);
    assert_eq!(world.all(b"+OK\r\n"), "=+OK | =+OK");
    world.ends(&[(Stat::write_retries, 2), (Stat::quorum_lost, 0)]);
    assert!(world.coordinator.mending.writing.keys.is_empty());
    // The second was taken as it was: the first, which comes again, would stay in its place.
    let (mut world, again) = begun();
    assert_eq!(world.reply(1, b"+OK\r\n"), "");
    assert_eq!(world.reply(2, b"+OK\r\n"), sent(5002, "w"));
    let second = world.asked.split_off(1);
    world.all(b"+OK\r\n");
    world.asked = again;
    assert_eq!(world.reply(0, &late(5002)), "", "skipped for the second");
    assert_eq!(world.reply(1, b"+OK\r\n"), "=+OK");
    world.asked.extend(second);
    assert_eq!(world.all(b"+OK\r\n"), "=+OK");
    world.ends(&[(Stat::write_retries, 2), (Stat::quorum_lost, 0)]);
    // What counts what it finds is not executed twice.
    let mut world = World::quorum();
    world.ask("hset h f 1");
    let first = std::mem::take(&mut world.asked);
    world.ask("hset h f 2");
    world.asked = first;
    world.reply(1, &late(5000));
    assert!(world.reply(2, &late(5000)).starts_with("=-ERR Dynomite: Failed to achieve Quorum: newer writes"));
}

/// Somebody else's repair may bring a later write to a replica before the earlier one comes there.
#[test]
fn a_write_that_a_later_one_of_ours_came_before_is_done() {
    let mut world = World::quorum();
    for (early, later, done) in
        [("set k v", "set k w", "+OK"), ("mset k 1 l 1", "mset k 2 l 2", "+OK"), ("hset h f 1", "hset h f 2", ":0")]
    {
        let (mut world, answer) = (World::quorum(), format!("{done}\r\n"));
        world.ask(early);
        let early = std::mem::take(&mut world.asked);
        world.ask(later);
        let later = std::mem::replace(&mut world.asked, early);
        assert_eq!(world.reply(1, &late(1001)), "");
        assert_eq!(world.reply(2, &late(1001)), if done == "+OK" { "=+OK" } else { "" }, "{done}");
        assert_eq!(world.reply(0, answer.as_bytes()), if done == "+OK" { "" } else { "=:0" });
        world.asked = later;
        assert_eq!(world.all(answer.as_bytes()), format!("={done}"));
        world.ends(&[(Stat::write_retries, 0), (Stat::quorum_lost, 0), (Stat::quorum_mismatches, 0)]);
        assert!(world.coordinator.mending.writing.keys.is_empty());
    }
    // Nobody can say what it would have found.
    world.ask("hset h f 1");
    world.ask("hset h f 2");
    world.reply(0, &late(1001));
    world.reply(1, &late(1001));
    let told = world.reply(2, &late(1001));
    assert!(told.starts_with("=-ERR Dynomite: Failed to achieve Quorum: newer writes"), "{told}");
    // One of its keys somebody else has written.
    let mut world = World::quorum();
    world.ask("mset k 1 l 1");
    world.ask("mset k 2 l 2");
    let both = b"*3\r\n$1\r\nO\r\n$16\r\n1000000000000000\r\n$4\r\n1001\r\n";
    assert_eq!(world.reply(0, both), "");
    assert!(world.reply(1, both).starts_with("SetMany "), "it is sent again");
}

#[test]
fn times_of_writes_under_way() {
    let mut world = World::quorum();
    for value in 0..3 {
        world.ask(&format!("set k {value}"));
    }
    let given = |world: &World| {
        let writes = world.coordinator.mending.writing.keys.values().flat_map(|writes| &writes.asked);
        writes.map(|write| (write.first, write.count)).collect::<Vec<_>>()
    };
    assert_eq!(given(&world), [(1000, 1), (1001, 1), (1002, 1)]);
    let all = std::mem::take(&mut world.asked);
    for (write, expected) in [(1, &[(1000, 1), (1001, 0), (1002, 1)][..]), (0, &[(1002, 1)]), (2, &[])] {
        world.asked = all[write * 3..][..3].to_vec();
        world.all(b"+OK\r\n");
        assert_eq!(given(&world), expected);
    }
}

/// Answers are `E5a`: exists since 5 with the value a; `R5` removed; `X` or `Xa` unknown; `+` something else.
fn answer(text: &str) -> Vec<u8> {
    if text == "+" {
        return b"+OK\r\n".to_vec();
    }
    let digits = text[1..].bytes().take_while(u8::is_ascii_digit).count();
    let (time, value) = text[1..].split_at(digits);
    let mut frame = format!("*3\r\n$1\r\n{}\r\n", &text[..1]).into_bytes();
    if text.starts_with('X') {
        frame.extend_from_slice(b":0\r\n");
    } else {
        encode::bulk(time.as_bytes(), &mut frame);
    }
    match value {
        "" => frame.extend_from_slice(b"$-1\r\n"),
        value => encode::bulk(value.as_bytes(), &mut frame),
    }
    frame
}

/// With quorum 2: what is taken while others may still answer, and what if nobody will.
#[track_caller]
fn check_newest(answers: &str, early: Option<&str>, last: Option<&str>) {
    let frames: Vec<_> = answers.split(' ').map(answer).collect();
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    for (is_last, expected) in [(false, early), (true, last)] {
        let taken = newest(&frames, 2, is_last).map(|at| frames[at].to_vec());
        assert_eq!(taken, expected.map(answer), "{answers}, last: {is_last}");
    }
}

#[test]
fn the_newest_is_taken() {
    check_newest("E5a E4b", Some("E5a"), Some("E5a"));
    check_newest("E4b E5a", Some("E5a"), Some("E5a"));
    check_newest("E4b E4b E5a", Some("E5a"), Some("E5a"));
    check_newest("R5 E4b", Some("R5"), Some("R5"));
    check_newest("R4 E5a E4b", Some("E5a"), Some("E5a"));
    // Nothing contradicts: the majority decides, or who knows something.
    check_newest("E5a E5a", None, None);
    check_newest("X X E5a", None, None);
    check_newest("X E5a", None, Some("E5a"));
    check_newest("Xa Xb", None, None);
    check_newest("X E4b E5a", Some("E5a"), Some("E5a"));
    check_newest("+ +", None, None);
    check_newest("+ E5a E4a", Some("E5a"), Some("E5a"));
}

#[test]
fn of_one_time_the_majority_is_taken_or_the_same_by_everybody() {
    check_newest("E5a E5b", None, Some("E5b"));
    check_newest("E5b E5a", None, Some("E5b"));
    check_newest("E5a E5a E5b", Some("E5a"), Some("E5a"));
    check_newest("E5a E5b E4c", None, Some("E5b"));
    check_newest("R5 E5a", None, Some("R5"));
}

const CLIENT: ClientId = ClientId(0);

struct World {
    coordinator: Coordinator,
    recorder: Recorder,
    /// Who was asked and has not answered, first asked first.
    asked: Vec<(u32, Leg)>,
    now: Moment,
}

impl World {
    fn new(topology: &str, level: ConsistencyLevel) -> World {
        let mut coordinator = testing::coordinator(topology, RouteSettings::default());
        coordinator.control.set_read_consistency(level);
        coordinator.control.set_write_consistency(level);
        coordinator.control.set_read_repairs(true);
        coordinator.connect(CLIENT, Asker::Client, Moment(0));
        for peer in 0..9 {
            Script::ALL.into_iter().for_each(|script| coordinator.mending.known.learn(PeerId(peer), script));
        }
        World { coordinator, recorder: Recorder::default(), asked: Vec::new(), now: Moment(0) }
    }

    fn quorum() -> World {
        World::new("a/r1:0 a/r2:0 a/r3:0", ConsistencyLevel::DcQuorum)
    }

    /// What came of it. Scripts are told by their names, times as how long they are behind the clock.
    fn told(&mut self) -> String {
        let mut legs = self.recorder.legs.drain(..);
        let mut told = Vec::new();
        for line in self.recorder.said.drain(..) {
            if !line.starts_with('=') {
                let who = line.split_once([':', '>']).and_then(|(who, _)| who.parse().ok()).unwrap_or(0);
                self.asked.push((who, legs.next().unwrap()));
            }
            let words = line.split(' ').map(|word| match wire::Script::of_sha(word.as_bytes()) {
                Some(script) => format!("{script:?}"),
                None => word.to_owned(),
            });
            let line = words.collect::<Vec<_>>().join(" ").replace("EVALSHA ", "");
            let text = wire::Script::ALL.into_iter().find(|script| line.contains(&format!("EVAL {} ", script.text())));
            told.push(match text {
                Some(script) => line.replace(script.text(), &format!("{script:?}")),
                None => line,
            });
        }
        told.join(" | ").replace("._add-set ._rem-set", "+-").replace("._rem-set ._add-set", "-+")
    }

    fn ask(&mut self, line: &str) -> String {
        let (client, now) = (CLIENT, self.now);
        let recorder = std::mem::take(&mut self.recorder);
        self.recorder = testing::ask_in(&mut self.coordinator, recorder, line, |coordinator, request, recorder| {
            coordinator.on_request(client, request, now, recorder);
        });
        self.told()
    }

    fn reply(&mut self, who: u32, frame: &[u8]) -> String {
        let at = self.asked.iter().position(|(asked, _)| *asked == who).expect("nobody was asked");
        let (_, leg) = self.asked.remove(at);
        let reply = Reply { frame, is_error: frame.starts_with(b"-") };
        self.coordinator.on_reply(leg, reply, self.now, &mut self.recorder);
        self.told()
    }

    fn lose(&mut self, who: u32) -> String {
        let at = self.asked.iter().position(|(asked, _)| *asked == who).expect("nobody was asked");
        let (_, leg) = self.asked.remove(at);
        self.coordinator.on_lost(leg, Fault::PeerRefused, self.now, &mut self.recorder);
        self.told()
    }

    /// Everybody still asked answers so.
    fn all(&mut self, frame: &[u8]) -> String {
        let count = self.asked.len();
        let told: Vec<_> =
            (0..count).map(|_| self.reply(self.asked[0].0, frame)).filter(|told| !told.is_empty()).collect();
        told.join(" | ")
    }

    fn wait(&mut self, seconds: u64) -> String {
        self.now = self.now + Duration::from_secs(seconds);
        self.coordinator.on_wake(self.now, &mut self.recorder);
        self.told()
    }

    #[track_caller]
    fn ends(&self, stats: &[(Stat, u64)]) {
        assert_eq!(self.coordinator.in_flight(), 0, "something is still outstanding");
        assert_eq!(self.coordinator.mending.asides, 0);
        for (stat, count) in stats {
            assert_eq!(self.coordinator.stats.get(*stat), *count, "{stat:?}");
        }
    }
}

fn more(text: &str, ttl: i64, changed: u64) -> Vec<u8> {
    let mut frame = answer(text);
    frame[1] = b'5';
    encode::integer(ttl, &mut frame);
    encode::bulk(changed.to_string().as_bytes(), &mut frame);
    frame
}

fn late(time: u64) -> Vec<u8> {
    let mut frame = b"*2\r\n$1\r\nO\r\n".to_vec();
    encode::bulk(time.to_string().as_bytes(), &mut frame);
    frame
}

#[test]
fn a_write_is_stamped_and_answered_as_ever() {
    let mut world = World::quorum();
    let set = "Set 3 k +- SET 0 1000 v";
    assert_eq!(world.ask("set k v"), format!("{set} | 1:{set} | 2:{set}"));
    assert_eq!(world.reply(0, b"+OK\r\n"), "");
    assert_eq!(world.reply(2, b"+OK\r\n"), "=+OK");
    assert_eq!(world.reply(1, b"+OK\r\n"), "");
    let set = "Set 3 k +- SET 0 1001 w";
    assert_eq!(world.ask("set k w"), format!("{set} | 1:{set} | 2:{set}"));
    world.all(b"+OK\r\n");
    world.ends(&[(Stat::quorum_mismatches, 0)]);
}

#[test]
fn requests_of_one_batch_have_times_of_their_own() {
    let mut world = World::quorum();
    for (line, time) in [("set k 1", 1000), ("append k 2", 1001), ("del k", 1002), ("mset j 1 k 2", 1003)] {
        let told = world.ask(line);
        assert!(told.contains(&format!(" {time}")), "{told}");
    }
}

#[test]
fn the_newest_is_told_and_the_others_get_it() {
    let mut world = World::quorum();
    let get = "Get 3 k +- GET 0 1000";
    assert_eq!(world.ask("get k"), format!("{get} | 1:{get} | 2:{get}"));
    assert_eq!(world.reply(1, &answer("E4old")), "");
    // Two answers are enough, and they say by themselves who is right.
    assert_eq!(world.reply(2, &answer("E5new")), "=$3\r\nnew | 2:Get 3 k +- GET 0 1000 more");
    assert_eq!(world.reply(2, &more("E5new", 250, 0)), "1:Set 3 k +- SET 0 5 new PX 250");
    // Our own answer comes late, and differs as well.
    assert_eq!(world.reply(0, &answer("E3older")), "2:Get 3 k +- GET 0 1000 more");
    assert_eq!(world.reply(2, &more("E6newer", -1, 0)), "Set 3 k +- SET 0 6 newer");
    assert_eq!(world.all(b"+OK\r\n"), "");
    world.ends(&[(Stat::read_repairs, 2), (Stat::read_repairs_failed, 0), (Stat::quorum_mismatches, 1)]);
}

#[test]
fn a_late_answer_that_is_newer_repairs_the_majority() {
    let mut world = World::quorum();
    world.ask("hget h f");
    assert_eq!(world.reply(0, &answer("E4old")), "");
    assert_eq!(world.reply(1, &answer("E4old")), "=$3\r\nold");
    assert_eq!(world.reply(2, &answer("R5")), "2:GetField 3 h +- HGET 1 1000 f more");
    let hdel = "RemoveFields 3 h -+ HDEL 1 5 f";
    assert_eq!(world.reply(2, &more("R5", -2, 0)), format!("{hdel} | 1:{hdel}"));
    assert_eq!(world.reply(0, b":1\r\n"), "");
    assert_eq!(world.reply(1, b"-WRONGTYPE no\r\n"), "");
    world.ends(&[(Stat::read_repairs, 1), (Stat::read_repairs_failed, 1)]);
}

/// Who never heard of a key gets it if most have it. One alone may be one that missed its removal.
#[test]
fn who_knows_nothing_gets_what_most_hold() {
    let mut world = World::quorum();
    world.ask("get k");
    world.reply(0, &answer("E5v"));
    assert_eq!(world.reply(1, &answer("E5v")), "=$1\r\nv");
    assert_eq!(world.reply(2, &answer("X")), "Get 3 k +- GET 0 1000 more");
    assert_eq!(world.reply(0, &more("E5v", -1, 0)), "2:Set 3 k +- SET 0 5 v");
    world.all(b"+OK\r\n");
    world.ask("hget h f");
    world.reply(0, &answer("X"));
    assert_eq!(world.reply(1, &answer("X")), "=$-1");
    assert_eq!(world.reply(2, &answer("E5v")), "", "its removal was forgotten, or it alone was written");
    // Of a removal only those are told who have something.
    for (answered, told) in [("X", ""), ("Xold", "Get 3 j +- GET 0 1000 more")] {
        world.ask("get j");
        world.reply(0, &answer("R5"));
        world.reply(1, &answer("R5"));
        assert_eq!(world.reply(2, &answer(answered)), told);
    }
    assert_eq!(world.reply(0, &more("R5", -2, 0)), "2:Remove 3 j -+ DEL 0 5");
    world.all(b":1\r\n");
    world.ends(&[(Stat::read_repairs, 2)]);
}

#[test]
fn a_repair_that_cannot_be_made() {
    let mut world = World::quorum();
    world.ask("get k");
    world.reply(1, &answer("E4old"));
    world.reply(2, &answer("E5new"));
    assert_eq!(world.lose(2), "", "who has the newest is gone");
    assert_eq!(world.reply(0, &answer("E5new")), "");
    world.ends(&[(Stat::read_repairs, 0), (Stat::read_repairs_failed, 1)]);
    // Gone from itself meanwhile, and overtaken by a newer write.
    world.ask("get k");
    world.reply(1, &answer("E4old"));
    world.reply(0, &answer("E5new"));
    assert_eq!(world.reply(0, &more("X", -2, 0)), "");
    assert_eq!(world.reply(2, &answer("E4old")), "Get 3 k +- GET 0 1000 more");
    assert_eq!(world.reply(0, &more("E7x", -1, 0)), "2:Set 3 k +- SET 0 7 x");
    assert_eq!(world.reply(2, &late(9)), "");
    world.ends(&[(Stat::read_repairs, 0), (Stat::read_repairs_failed, 1)]);
}

#[test]
fn what_builds_on_what_it_finds_is_repaired_when_it_has_settled() {
    let mut world = World::quorum();
    world.ask("get k");
    world.reply(0, &answer("E900six"));
    assert_eq!(world.reply(1, &answer("E4five")), "=$3\r\nsix | Get 3 k +- GET 0 1000 more");
    assert_eq!(world.reply(0, &more("E900six", -1, 900)), "");
    assert_eq!(world.reply(2, &answer("E4five")), "Get 3 k +- GET 0 1000 more");
    assert_eq!(world.reply(0, &more("E900six", -1, 900)), "");
    // Once, for all who saw it.
    let get = "Get 3 k +- GET 0 1000";
    assert_eq!(world.wait(1), "");
    assert_eq!(world.wait(1), format!("{get} | 1:{get} | 2:{get}"));
    world.recorder.epoch_micros = 9_000_000;
    world.reply(0, &answer("E900six"));
    world.reply(1, &answer("E900six"));
    assert_eq!(world.reply(2, &answer("E4five")), "Get 3 k +- GET 0 1000 more");
    assert_eq!(world.reply(0, &more("E900six", -1, 900)), "2:Set 3 k +- SET 0 900 six");
    world.all(b"+OK\r\n");
    world.ends(&[(Stat::read_repairs, 1)]);
}

#[test]
fn one_time_and_two_values_are_looked_at_twice() {
    let mut world = World::quorum();
    world.ask("get k");
    world.reply(0, &answer("E5five"));
    assert_eq!(world.reply(1, &answer("E5six")), "", "the third one decides");
    assert_eq!(world.reply(2, &answer("E5six")), "=$3\r\nsix");
    let get = "Get 3 k +- GET 0 1000";
    assert_eq!(world.wait(2), format!("{get} | 1:{get} | 2:{get}"));
    world.reply(0, &answer("E5five"));
    world.reply(1, &answer("E5six"));
    assert_eq!(world.reply(2, &answer("E5six")), "1:Get 3 k +- GET 0 1000 more");
    assert_eq!(world.reply(1, &more("E5six", -1, 0)), "Set 3 k +- SET 0 5 six");
    world.all(b"+OK\r\n");
    world.ends(&[(Stat::read_repairs, 1)]);
}

#[test]
fn a_write_that_comes_too_late_is_sent_again() {
    let mut world = World::quorum();
    world.ask("set k v");
    assert_eq!(world.reply(1, &late(5000)), "");
    let again = "Set 3 k +- SET 0 5001 v";
    assert_eq!(world.reply(2, &late(5000)), format!("{again} | 1:{again} | 2:{again}"));
    assert_eq!(world.reply(0, b"+OK\r\n"), "", "the first round's");
    assert_eq!(world.reply(0, b"+OK\r\n"), "");
    assert_eq!(world.reply(1, b"+OK\r\n"), "=+OK");
    assert_eq!(world.reply(2, b"+OK\r\n"), "");
    let next = "Set 3 k +- SET 0 5002 w";
    assert_eq!(world.ask("set k w"), format!("{next} | 1:{next} | 2:{next}"), "the key's next write is ahead at once");
    world.all(b"+OK\r\n");
    world.ends(&[(Stat::write_retries, 1)]);
    // Most have taken it: what one of them has is newer, and that is all.
    world.ask("set j v");
    world.reply(1, &late(5000));
    world.reply(0, b"+OK\r\n");
    assert_eq!(world.reply(2, b"+OK\r\n"), "=+OK");
    // One has, one has not, one is gone: nobody may be told that it is done.
    world.ask("set i v");
    world.reply(1, &late(4000));
    world.lose(2);
    let again = "Set 3 i +- SET 0 4001 v";
    assert_eq!(world.reply(0, b"+OK\r\n"), format!("{again} | 1:{again} | 2:{again}"));
    world.all(b"+OK\r\n");
    world.ends(&[(Stat::write_retries, 2)]);
}

#[test]
fn not_for_ever() {
    let mut world = World::quorum();
    world.ask("set k v");
    for round in 1..u64::from(TRIES_MAX) {
        world.reply(0, &late(round * 10_000));
        assert!(world.reply(1, &late(round * 10_000)).starts_with("Set"));
        world.reply(2, &late(round * 10_000));
    }
    world.reply(0, &late(90_000));
    let error = "=-ERR Dynomite: Failed to achieve Quorum: newer writes of the key";
    assert_eq!(world.reply(1, &late(90_000)), error);
    world.all(&late(90_000));
    world.ends(&[(Stat::write_retries, u64::from(TRIES_MAX) - 1), (Stat::quorum_lost, 1)]);
}

#[test]
fn who_does_not_know_the_script_gets_its_text() {
    let mut world = World::quorum();
    world.ask("set k v");
    let noscript = b"-NOSCRIPT No matching script. Please use EVAL.\r\n";
    assert_eq!(world.reply(1, noscript), "1:EVAL Set 3 k +- SET 0 1000 v");
    world.reply(0, b"+OK\r\n");
    assert_eq!(world.reply(1, b"+OK\r\n"), "=+OK");
    assert_eq!(world.reply(2, noscript), "2:EVAL Set 3 k +- SET 0 1000 v", "also when all is decided");
    assert_eq!(world.reply(2, b"+OK\r\n"), "");
    world.ask("get k");
    world.reply(0, &answer("E5a"));
    world.reply(1, &answer("E4b"));
    assert_eq!(world.reply(0, noscript), "EVAL Get 3 k +- GET 0 1000 more");
    assert_eq!(world.reply(0, &more("E5a", -1, 0)), "1:Set 3 k +- SET 0 5 a");
    assert_eq!(world.reply(1, noscript), "1:EVAL Set 3 k +- SET 0 5 a");
    world.reply(1, b"+OK\r\n");
    world.reply(2, &answer("E5a"));
    world.ends(&[(Stat::read_repairs, 1)]);
}

/// What goes by digest and comes back would be overtaken by what goes by text: who forgot one script is sent text alone.
#[test]
fn scripts_that_were_not_seen_to_run_go_as_text() {
    let mut world = World::new("a/r1:0 a/r2:0", ConsistencyLevel::DcQuorum);
    world.coordinator.mending.known = Known::default();
    let (set, get) = ("Set 3 k +- SET 0 1000 v", "Get 3 k +- GET 0 1000");
    assert_eq!(world.ask("set k v"), format!("EVAL {set} | 1:EVAL {set}"));
    world.all(b"+OK\r\n");
    let set = "Set 3 k +- SET 0 1001 w";
    assert_eq!(world.ask("set k w"), format!("{set} | 1:{set}"));
    assert_eq!(world.ask("get k"), format!("EVAL {get} | 1:EVAL {get}"));
    assert_eq!(world.reply(1, b"-NOSCRIPT\r\n"), format!("1:EVAL {set}"));
    let set = "Set 3 k +- SET 0 1002 x";
    assert_eq!(world.ask("set k x"), format!("{set} | 1:EVAL {set}"));
}

#[test]
fn c_nodes_and_other_datacenters_get_the_text() {
    let mut world = World::new("a/r1:0 a/r2:0 a/r3:0 b/x:0 b/y:0", ConsistencyLevel::DcQuorum);
    world.recorder.c_nodes = vec![1];
    let (sha, text) = ("Set 3 k +- SET 0 1000 v", "EVAL Set 3 k +- SET 0 1000 v");
    assert_eq!(world.ask("set k v"), format!("{sha} | 1:{text} | 2:{sha} | 3>{text}"));
    // What a C node does not know is no matter inside a script; keys are.
    world.recorder.c_nodes = vec![1];
    assert!(world.ask("getex k ex 5").contains("1:EVAL Run 3 k +- GETEX"));
    let mut world = World::quorum();
    world.recorder.c_nodes = vec![1];
    let told = world.ask(&format!("set {} v", "k".repeat(20_000)));
    assert!(told.starts_with("=-ERR Dynomite: 'set' was not sent"), "{told}");
}

#[test]
fn a_removal_that_all_have_seen_is_forgotten() {
    let mut world = World::new("a/r1:0 a/r2:0", ConsistencyLevel::DcQuorum);
    world.ask("del k");
    assert_eq!(world.all(b":1\r\n"), "=:1");
    assert_eq!(world.wait(1), "");
    let clean = "Clean 3 k +- CLEAN 0 1000";
    assert_eq!(world.wait(1), format!("{clean} | 1:{clean}"));
    world.all(b":1\r\n");
    world.ends(&[]);
    // Not if somebody has not.
    world.ask("hdel h f");
    world.reply(0, b":1\r\n");
    world.reply(1, b"-LOADING\r\n");
    world.ask("srem s m");
    world.reply(0, b":1\r\n");
    world.lose(1);
    assert_eq!(world.wait(5), "");
    world.ends(&[]);
}

#[test]
fn a_connection_with_another_level() {
    let mut world = World::quorum();
    world.coordinator.clients[0].as_mut().unwrap().read_level = ConsistencyLevel::DcOne;
    world.coordinator.clients[0].as_mut().unwrap().write_level = ConsistencyLevel::DcOne;
    assert_eq!(world.ask("get k"), "get k");
    assert_eq!(world.reply(0, b"$1\r\nv\r\n"), "=$1\r\nv");
    // The others rely on its times.
    let incr = "Run 3 k +- INCR k 1000 0  0 k";
    assert_eq!(world.ask("incr k"), format!("{incr} | 1:{incr} | 2:{incr}"));
    assert_eq!(world.reply(0, b"$16\r\n9007199254740993\r\n"), "=:9007199254740993");
    world.all(b":1\r\n");
    assert!(world.ask("set k v").starts_with("Set 3 k +- SET"));
    assert!(world.reply(0, &late(5000)).starts_with("Set 3 k +- SET 0 5001"));
    world.asked.clear();
}

#[test]
fn what_no_script_can_run_is_noted_behind() {
    let mut world = World::new("a/r1:0 a/r2:0 b/x:0", ConsistencyLevel::DcQuorum);
    let (eval, stamp) = ("eval x 1 k", "Stamp 3 k +- STAMP 0 1000");
    assert_eq!(world.ask("eval x 1 k"), format!("{eval} | 1:{eval} | 2>{eval} | {stamp} | 1:{stamp} | 2>EVAL {stamp}"));
    world.reply(0, b":1\r\n");
    assert_eq!(world.reply(1, b":1\r\n"), "=:1");
    assert_eq!(world.all(b"+OK\r\n"), "");
    world.ends(&[(Stat::late_replies, 0)]);
}

#[test]
fn keys_of_several_owners() {
    let mut world = World::new("a/r1:4294967295 a/r1:2147483648 a/r2:0", ConsistencyLevel::DcQuorum);
    let (foo, bar) = ("Remove 3 foo -+ DEL 0 1000", "Remove 3 bar -+ DEL 0 1000");
    assert_eq!(world.ask("del foo bar"), format!("{foo} | 2:{foo} | 1:{bar} | 2:{bar}"));
    assert_eq!(world.all(b":1\r\n"), "=:2");
}

#[test]
fn nothing_is_rewritten_where_nothing_can_be_repaired() {
    for (topology, told) in [("a/r1:0", "get bar"), ("a/r1:4294967295 a/r1:2147483648", "1:get bar")] {
        assert_eq!(World::new(topology, ConsistencyLevel::DcQuorum).ask("get bar"), told);
    }
    assert_eq!(World::new("a/r1:0 a/r2:0", ConsistencyLevel::DcOne).ask("set k v"), "set k v | 1:set k v");
    let mut world = World::quorum();
    world.coordinator.control.set_read_repairs(false);
    assert_eq!(world.ask("get k"), "get k | 1:get k", "nor is anybody asked beyond a quorum");
}
