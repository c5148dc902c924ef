//! Levels, and what replicas answer in which order → what is said.

use proptest::prelude::*;

use super::*;
use crate::coordinator::effects::Ask;
use crate::coordinator::route::Target;
use crate::ring::topology::sketch;

/// A plan of what the words name. `r…` are racks of our datacenter and `x…`, `y…` of others; `(r2)` is a spare, `+x1` a
/// copy. Every name must be there once before it answers; `:` ends them: `r1 r2 (r3) : r1=A`. Without a `:` the names
/// are those that answer, in order of their names.
struct Scene {
    names: Vec<String>,
    gather: Gather,
}

fn scene<'a>(need: Need, words: &[&'a str]) -> (Scene, Vec<&'a str>) {
    let split = words.iter().position(|word| *word == ":");
    let (named, events): (Vec<String>, Vec<&str>) = match split {
        Some(at) => (words[..at].iter().map(|word| word.to_string()).collect(), words[at + 1..].to_vec()),
        None => {
            let mut names: Vec<_> = words.iter().map(|word| word.split('=').next().unwrap().to_owned()).collect();
            names.sort();
            names.dedup();
            // Ours first.
            names.sort_by_key(|name| !name.starts_with('r'));
            (names, words.to_vec())
        }
    };
    let mut targets = SmallVec::new();
    let mut names = Vec::new();
    for name in &named {
        let (part, name) = match name.as_bytes()[0] {
            b'(' => (Part::Spare, &name[1..name.len() - 1]),
            b'+' => (Part::Copy, &name[1..]),
            _ => (Part::Vote, name.as_str()),
        };
        let datacenter = name.as_bytes()[0].saturating_sub(b'w') % 16;
        let peer = PeerId(targets.len() as u32);
        targets.push(Target { peer, ask: Ask::Execute, datacenter, part, stands_in: false });
        names.push(name.to_owned());
    }
    let gather = Gather::new(Plan { targets, need }, Judge::Whole, Vec::new());
    (Scene { names, gather }, events)
}

impl Scene {
    /// `r1=A` answers, `r1=!E` with an error, `r1=-` fails, `r1=~` fails before anything was sent, `r1=<A` was
    /// overtaken and says A, `slow` asks one who is held back, `deadline` passes.
    fn step(&mut self, event: &str) -> (Outcome, Vec<u8>) {
        let Some((name, what)) = event.split_once('=') else {
            let outcome = match event {
                "deadline" => self.gather.on_deadline(),
                "slow" => self.gather.widen(),
                other => panic!("{other}"),
            };
            return (outcome, Vec::new());
        };
        let index = self.names.iter().position(|known| known == name).unwrap() as u8;
        let frame = match what.strip_prefix('!') {
            Some(error) => format!("-{}\r\n", error.replace('_', " ")).into_bytes(),
            None => what.replace('_', "\r\n").into_bytes(),
        };
        let outcome = match what {
            "-" => self.gather.on_fault(index, Fault::PeerRefused),
            "~" => self.gather.on_fault(index, Fault::PeerNotConnected),
            _ if what.starts_with('<') => self.gather.on_overtaken(index, Reply { frame: &frame, is_error: false }),
            _ => self.gather.on_reply(index, Reply { frame: &frame, is_error: what.starts_with('!') }),
        };
        (outcome, frame)
    }

    fn say(&self, outcome: Outcome, this: &[u8]) -> String {
        let text = |frame: &[u8]| String::from_utf8_lossy(frame).trim_end().replace("\r\n", "_");
        match outcome {
            Outcome::Pending => String::new(),
            Outcome::Ask(index) => format!("ask {}", self.names[usize::from(index)]),
            Outcome::Won { answer, agreed } => {
                let frame = match answer {
                    Answer::This => this,
                    Answer::Kept => self.gather.winner().unwrap().frame,
                };
                format!("won {}{}", text(frame), if agreed { "" } else { " at odds" })
            }
            Outcome::Lost => "lost".to_owned(),
            Outcome::Late { differs } => if differs { "differs" } else { "" }.to_owned(),
        }
    }
}

fn run(script: &str, judge: Judge) -> (String, Scene) {
    let words: Vec<_> = script.split_whitespace().collect();
    let need = match words[0] {
        "dc_one" => Need::One,
        "dc_quorum" => Need::Quorum,
        _ => Need::SafeQuorum,
    };
    let (mut scene, events) = scene(need, &words[1..]);
    scene.gather.judge = judge;
    let mut said = Vec::new();
    for event in events {
        let (mut outcome, frame) = scene.step(event);
        said.push(scene.say(outcome, &frame));
        // As the fan-out does it: who is to be asked is, and then perhaps the next.
        while need != Need::One && matches!(outcome, Outcome::Ask(_)) {
            outcome = scene.gather.ask_on();
            said.push(scene.say(outcome, &frame));
        }
    }
    said.retain(|words| !words.is_empty());
    (said.join(", "), scene)
}

/// A level and what its replicas answer, in this order → all that is said.
#[track_caller]
fn check_by(judge: Judge, script: &str, expected: &str) {
    assert_eq!(run(script, judge).0, expected, "{script}");
}

#[track_caller]
fn check(script: &str, expected: &str) {
    check_by(Judge::Whole, script, expected);
}

/// A later write was there first.
#[test]
fn who_was_overtaken_goes_with_the_others() {
    for level in ["dc_quorum", "dc_safe_quorum"] {
        let check = |script: &str, judge, expected: &str| check_by(judge, &format!("{level} {script}"), expected);
        check("r1=<O r2=<P r3=A", Judge::Whole, "won A");
        check("r1=A r2=<O r3=B", Judge::Whole, "won A, differs");
        check("r1=<O r2=<O r3=-", Judge::Whole, "won <O");
        check("r1=<O r2=- r3=-", Judge::Whole, "lost");
        check("r1 r2 r3 : r1=<O r2=<O deadline", Judge::Whole, "won <O");
        check("r1=<O r2=:1 r3=:0", Judge::Counts, "won :1, differs");
        check("r1=:1 r2=:0 r3=<O r4=<O r5=:2", Judge::Counts, "won :1, differs");
        // Another datacenter may say it.
        check("r1=<O r2=<O x1=A x2=A", Judge::Whole, "won A");
        check("r1=<O r2=<O x1=<O x2=<O", Judge::Whole, "won <O");
        check("r1=A r2=A r3=<O", Judge::Whole, "won A");
    }
    check("dc_quorum r1=A r2=B r3=C r4=<O r5=-", "won A at odds");
    check("dc_one r1=<O r2=A", "won <O");
}

/// A write that a repair got ahead of on some replicas.
#[test]
fn numbers_agree_where_they_only_count() {
    let check = |script: &str, expected: &str| check_by(Judge::Counts, script, expected);
    check("dc_safe_quorum r1=:1 r2=:0", "won :1");
    check("dc_safe_quorum r1=:1 r2=:0 r3=:0", "won :0");
    check("dc_safe_quorum r1=:1 r2=:0 r3=:2", "won :1");
    check("dc_safe_quorum r1=:1 r2=!ERR r3=:0", "won :1");
    check("dc_safe_quorum r1=:1 r2=!ERR r3=!ERR", "won -ERR");
    check("dc_safe_quorum r1=:1 r2=!ERR r3=-", "lost");
    check("dc_safe_quorum r1=:1 r2=*2_$1_O_$1_9", "lost");
    check("dc_safe_quorum r1=:1 r2=:0 r3=-", "won :1");
    check("dc_safe_quorum r1=:1 r2=:1 x1=:1 x2=:0", "won :1");
}

#[test]
fn sets_agree_in_any_order() {
    let check = |script: &str, expected: &str| check_by(Judge::Unordered, script, expected);
    check("dc_safe_quorum r1=*2_:1_:2_ r2=*2_:2_:1_", "won *2_:2_:1");
    check("dc_safe_quorum r1=*2_:1_:2_ r2=*2_:2_:2_ r3=*2_:2_:1_", "won *2_:2_:1");
    check("dc_safe_quorum r1=*2_:1_:2_ r2=*2_:2_:2_ r3=*1_:1_", "lost");
    check("dc_safe_quorum r1=!WRONGTYPE r2=*1_:1_ r3=!WRONGTYPE", "won -WRONGTYPE");
}

fn check_elements(script: &str, expected: &str) {
    check_by(Judge::PerElement, script, expected);
}

#[test]
fn one_takes_the_first_in_the_list() {
    check("dc_one r1=A", "won A");
    check("dc_one r1=!WRONGTYPE", "won -WRONGTYPE");
    check("dc_one r1=-", "lost");
    check("dc_one r2=B r1=A", "won A");
    check("dc_one r2=B r3=C r1=-", "won B");
    check("dc_one r3=C r1=- r2=B", "won B");
    check("dc_one r1=- r2=- r3=C", "won C");
    check("dc_one r1=- r2=- r3=-", "lost");
    check("dc_one r1=A r2=B r3=-", "won A");
}

#[test]
fn one_reads_fail_over() {
    check("dc_one r1 (r2) (r3) : r1=A", "won A");
    check("dc_one r1 (r2) (r3) : r1=- r2=B", "ask r2, won B");
    check("dc_one r1 (r2) (r3) : r1=~ r2=~ r3=C", "ask r2, ask r3, won C");
    check("dc_one r1 (r2) (r3) : r1=~ r2=- r3=-", "ask r2, ask r3, lost");
    check("dc_one r1 (r2) : r1=- r1=A r2=B", "ask r2, won A");
    check("dc_one r1 (r2) : r1=!ERR_Storage:_Datastore_refused_connection r2=B", "ask r2, won B");
    check("dc_one r1 (r2) : r1=!ERR_other", "won -ERR other");
    check("dc_one r1 (r2) : deadline", "lost");
}

#[test]
fn quorum_takes_a_majority_or_the_first() {
    check("dc_quorum r1=A", "won A");
    check("dc_quorum r1=A r2=A", "won A");
    check("dc_quorum r1=A r2=B", "won A at odds");
    check("dc_quorum r2=B r1=A", "won B at odds");
    check("dc_quorum r1=A r2=- r3=A", "won A");
    check("dc_quorum r1=A r2=B r3=A", "won A");
    check("dc_quorum r1=A r2=B r3=B", "won B");
    check("dc_quorum r1=A r2=B r3=C", "won A at odds");
    check("dc_quorum r1=A r2=B r3=-", "won A at odds");
    check("dc_quorum r1=A r2=- r3=-", "lost");
    check("dc_quorum r1=- r2=-", "lost");
}

#[test]
fn a_safe_quorum_needs_a_majority() {
    check("dc_safe_quorum r1=A", "won A");
    check("dc_safe_quorum r1=A r2=A", "won A");
    check("dc_safe_quorum r1=A r2=B", "lost");
    check("dc_safe_quorum r1=A r2=- r3=A", "won A");
    check("dc_safe_quorum r1=A r2=B r3=B", "won B");
    check("dc_safe_quorum r1=A r2=B r3=C", "lost");
    check("dc_safe_quorum r1=A r2=B r3=-", "lost");
    check("dc_safe_quorum r1=- r2=- r3=A", "lost");
}

#[test]
fn bytes_are_compared_as_they_are() {
    check("dc_safe_quorum r1=bar r2=BAR", "lost");
    check("dc_safe_quorum r1=bar r2=BAR r3=bar", "won bar");
}

#[test]
fn more_than_three_racks() {
    check("dc_safe_quorum r1=A r2=A r3=B r4=A", "won A");
    check("dc_safe_quorum r1=A r2=A r3=B r4=B", "lost");
    check("dc_quorum r1=A r2=A r3=B r4=B", "won A at odds");
    check("dc_safe_quorum r1=A r2=B r3=A r4=- r5=A", "won A");
    check("dc_safe_quorum r1=A r2=B r3=A r4=- r5=-", "lost");
    check("dc_quorum r1=A r2=B r3=- r4=- r5=-", "lost");
}

#[test]
fn who_is_held_back_is_asked_when_a_quorum_is_short() {
    for level in ["dc_quorum", "dc_safe_quorum"] {
        let check = |script: &str, expected: &str| check(&format!("{level} {script}"), expected);
        check("r1 r2 (r3) : r1=A r2=A", "won A");
        check("r1 r2 (r3) : r1=A r2=B r3=B", "ask r3, won B");
        check("r1 r2 (r3) : r1=- r2=A r3=A", "ask r3, won A");
        check("r1 r2 (r3) : r2=- r1=A r3=A", "ask r3, won A");
        check("r1 r2 (r3) : r1=!E r2=!E", "won -E");
        check("r1 r2 (r3) : r1=- r2=-", "ask r3, lost");
        check("r1 r2 (r3) : r1=A slow r3=A r2=B", "ask r3, won A, differs");
        check("r1 r2 (r3) : r1=A r2=A slow", "won A");
        check("r1 r2 (r3) : r1=A deadline", "lost");
        check("r1 r2 r3 (r4) (r5) : r1=A r2=B r3=C r4=C r5=C", "ask r4, ask r5, won C");
        check("r1 r2 r3 (r4) (r5) : slow slow slow r4=A r5=A r1=A", "ask r4, ask r5, won A");
    }
    check("dc_quorum r1 r2 (r3) : r1=A r2=B r3=-", "ask r3, won A at odds");
    check("dc_one r1 (r2) (r3) : slow r2=A r1=B", "ask r2, won A");
    check("dc_one r1 (r2) (r3) : slow r1=B r2=A", "ask r2, won B");
    check("dc_one r1 (r2) (r3) : slow r2=- r3=C", "ask r2, ask r3, won C");
    check("dc_one r1 (r2) : slow slow deadline", "ask r2, lost");
    check("dc_one r1 r2 +x1 (x2) : slow r2=A r1=B", "won B");
    check_by(Judge::PerElement, "dc_quorum r1 r2 (r3) : r1=*1_A r2=*1_B r3=*1_B", "ask r3, won *1_B");
}

#[test]
fn errors_are_votes() {
    check("dc_quorum r1=!WRONGTYPE r2=!WRONGTYPE r3=A", "won -WRONGTYPE, differs");
    check("dc_safe_quorum r1=!WRONGTYPE r2=!WRONGTYPE", "won -WRONGTYPE");
    check("dc_quorum r1=!WRONGTYPE r2=A r3=A", "won A");
    check("dc_quorum r1=!WRONGTYPE r2=A r3=B", "won A at odds");
    check("dc_quorum r1=!WRONGTYPE r2=A", "lost");
    check("dc_safe_quorum r1=!WRONGTYPE r2=A", "lost");
    check("dc_quorum r1=!OOM r2=!LOADING r3=A", "lost");
    check("dc_quorum r1=!OOM r2=- r3=!OOM", "won -OOM");
    check("dc_quorum r1=!ERR_Peer:_Peer_Node_is_not_connected r2=!ERR_Peer:_Peer_Node_is_not_connected r3=A", "lost");
}

#[test]
fn each_datacenter_has_its_quorum() {
    check("dc_each_safe_quorum r1=A r2=A x1=B x2=B", "won A");
    check("dc_each_safe_quorum x1=B x2=B r1=A r2=A", "won A");
    check("dc_each_safe_quorum r1=A x1=B", "won A");
    check("dc_each_safe_quorum r1=A r2=A x1=B x2=C", "lost");
    check("dc_each_safe_quorum r1=A r2=A x1=- x2=-", "lost");
    check("dc_each_safe_quorum r1=A r2=A x1=B x2=- x3=B y1=B", "won A");
    check("dc_each_safe_quorum r1=A r2=A x1=B x2=- x3=B y1=-", "lost");
    check("dc_each_safe_quorum r1=A r2=C x1=B x2=B", "lost");
    check("dc_each_safe_quorum r1=A x1=!E", "won A");
}

#[test]
fn stragglers_tell_whether_they_differ() {
    check("dc_quorum r1=A r2=A r3=B", "won A, differs");
    check("dc_quorum r1=A r2=A r3=A", "won A");
    check("dc_quorum r1=A r2=A r3=-", "won A");
    check("dc_quorum r1=A r2=A r3=- r3=B", "won A, differs");
    check("dc_safe_quorum r1=A r2=B r3=- r3=A", "lost");
}

#[test]
fn nobody_votes_twice() {
    check("dc_quorum r1 r2 r3 : r1=A r1=A r2=B r1=B r3=C", "won A at odds");
    check("dc_safe_quorum r1 r2 : r1=A r1=A", "");
    check("dc_one r1 r2 : r1=- r1=- r2=A", "won A");
}

#[test]
fn copies_do_not_count() {
    check("dc_one r1 +x1 (x2) : x1=B r1=A x2=C", "won A");
    check("dc_quorum r1 r2 +x1 : x1=A r1=A r2=A", "won A");
    check("dc_one r1 +x1 (x2) : x1=~ r1=A x2=~", "ask x2, won A");
    check("dc_one r1 +x1 (x2) : r1=A x1=~ x2=B", "won A, ask x2");
    // It may have been executed there: nobody else gets it.
    check("dc_one r1 +x1 (x2) : x1=- r1=A", "won A");
}

#[test]
fn deadlines_end_the_wait() {
    check("dc_quorum r1 r2 r3 : r1=A r2=B deadline", "won A at odds");
    check("dc_safe_quorum r1 r2 r3 : r1=A r2=B deadline", "lost");
    check("dc_quorum r1 r2 r3 : r1=A deadline r2=A", "lost");
    check("dc_one r1 r2 : r2=B deadline", "won B");
    check("dc_one r1 r2 : deadline", "lost");
}

#[test]
fn arrays_may_be_decided_by_element() {
    check_elements("dc_safe_quorum r1=*2_:1_:2_ r2=*2_:3_:2_ r3=*2_:1_:4_", "won *2_:1_:2 at odds");
    check_elements("dc_safe_quorum r1=*1_:1_ r2=*1_:2_ r3=*1_:3_", "lost");
    check_elements("dc_quorum r1=*1_:1_ r2=*1_:2_ r3=*1_:3_", "won *1_:1 at odds");
    check_elements("dc_safe_quorum r1=*1_:1_ r2=*1_:2_ r3=*1_:2_", "won *1_:2");
    check_elements("dc_quorum r1=*1_:1_ r2=*2_:1_:2_", "won *1_:1 at odds");
    check_elements("dc_safe_quorum r1=*2_:1_:2_ r2=*2_:1_:3_ r3=-", "lost");
    check("dc_safe_quorum r1=*2_:1_:2_ r2=*2_:3_:2_ r3=*2_:1_:4_", "lost");
}

#[test]
fn answers_are_kept_for_whoever_mends() {
    let (_, scene) = run("dc_quorum r1=A r2=B r3=A", Judge::Whole);
    let answers: Vec<_> = scene.gather.answers().map(|(index, reply)| (index, reply.frame)).collect();
    assert_eq!(answers, [(0, &b"A"[..]), (1, b"B"), (2, b"A")]);
    assert!(!scene.gather.is_unanimous() && !scene.gather.is_waiting());
    assert!(run("dc_each_safe_quorum r1=A r2=A x1=B x2=B", Judge::Whole).1.gather.is_unanimous());
    assert!(run("dc_quorum r1 r2 r3 : r1=A r2=A", Judge::Whole).1.gather.is_waiting());
}

fn check_error(script: &str, level: ConsistencyLevel, expected: &str) {
    let (said, scene) = run(script, Judge::Whole);
    assert!(said.ends_with("lost"), "{script}: {said}");
    let topology = sketch("dc1/r1:1 dc1/r2:1 dc1/r3:1 dc2/x1:1");
    let mut out = Vec::new();
    scene.gather.explain(level, &topology, Protocol::Resp, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), format!("{expected}\r\n"));
}

#[test]
fn errors_say_what_was_missing() {
    use ConsistencyLevel::*;
    check_error(
        "dc_one r1=~",
        DcOne,
        "-ERR Peer: Peer Node is not connected (DC_ONE needs 1 of 1 racks of dc1, 0 answered; missing: r1 127.0.0.1:8101)",
    );
    check_error(
        "dc_one r1=~ r2=- r3=-",
        DcOne,
        "-ERR Peer: Peer Node is not connected (DC_ONE needs 1 of 3 racks of dc1, 0 answered; \
         missing: r1 127.0.0.1:8101, r2 127.0.0.2:8101, r3 127.0.0.3:8101)",
    );
    check_error(
        "dc_quorum r1=A r2=- r3=-",
        DcQuorum,
        "-ERR Peer: Peer Node refused connection (DC_QUORUM needs 2 of 3 racks of dc1, 1 answered; \
         missing: r2 127.0.0.2:8101, r3 127.0.0.3:8101)",
    );
    check_error(
        "dc_safe_quorum r1=A r2=B r3=C",
        DcSafeQuorum,
        "-ERR Dynomite: Failed to achieve Quorum (DC_SAFE_QUORUM needs 2 of 3 racks of dc1, 3 answered in 3 different ways)",
    );
    check_error(
        "dc_quorum r1=A r2=!OOM_command_not_allowed",
        DcQuorum,
        "-OOM command not allowed (DC_QUORUM needs 2 of 2 racks of dc1, 1 answered, others with an error)",
    );
    check_error(
        "dc_each_safe_quorum r1=A r2=A r3=A x1=~",
        DcEachSafeQuorum,
        "-ERR Peer: Peer Node is not connected (DC_EACH_SAFE_QUORUM needs 1 of 1 racks of dc2, 0 answered; \
         missing: x1 127.0.0.4:8101)",
    );
}

/// What the rules say of whole rounds, computed another way.
fn by_definition(need: Need, answers: &[Option<char>]) -> Option<char> {
    let quorum = answers.len() / 2 + 1;
    let given = |letter| answers.iter().filter(|answer| **answer == Some(letter)).count();
    let majority = ('A'..='D').find(|letter| given(*letter) >= quorum);
    let good = answers.iter().flatten().count();
    let first = answers.iter().flatten().next().copied();
    match need {
        Need::One => answers.iter().flatten().next().copied(),
        Need::Quorum => majority.or(first.filter(|_| good >= quorum)),
        Need::SafeQuorum => majority,
    }
}

proptest! {
    /// In any order of arrival: one outcome, and the one that the rules give for all the answers together; where
    /// answers differ it may come before the last.
    #[test]
    fn outcomes_follow_the_rules(
        need in prop::sample::select(&[Need::One, Need::Quorum, Need::SafeQuorum][..]),
        answers in prop::collection::vec(prop::option::weighted(0.7, prop::char::range('A', 'C')), 1..8),
    ) {
        let level = match need { Need::One => "dc_one", Need::Quorum => "dc_quorum", Need::SafeQuorum => "dc_safe_quorum" };
        let events = answers.iter().enumerate();
        let events: Vec<_> = events.map(|(n, answer)| format!("r{n}={}", answer.unwrap_or('-'))).collect();
        let (said, _) = run(&format!("{level} {}", events.join(" ")), Judge::Whole);
        let outcomes = said.split(", ").filter(|said| said.starts_with("won") || *said == "lost").count();
        prop_assert_eq!(outcomes, 1, "{}", said);
        let expected = by_definition(need, &answers).map_or("lost".to_owned(), |letter| format!("won {letter}"));
        prop_assert!(said.starts_with(&expected), "{} but {}", said, expected);
    }

    /// Whoever is held back: asked in time, they say what they would have said, and the outcome is one that the rules give
    /// for those who were asked.
    #[test]
    fn holding_back_changes_no_rule(
        need in prop::sample::select(&[Need::Quorum, Need::SafeQuorum][..]),
        answers in prop::collection::vec(prop::option::weighted(0.7, prop::char::range('A', 'B')), 2..8),
        order in any::<u64>(),
    ) {
        let enough = answers.len() / 2 + 1;
        let names: Vec<_> = (0..answers.len()).map(|n| if n < enough { format!("r{n}") } else { format!("(r{n})") }).collect();
        let level = if need == Need::Quorum { "dc_quorum" } else { "dc_safe_quorum" };
        let words = [vec![level], names.iter().map(String::as_str).collect(), vec![":"]].concat().join(" ");
        let (_, mut scene) = run(&words, Judge::Whole);
        let (mut asked, mut order): (Vec<usize>, _) = ((0..enough).collect(), order);
        let mut heard = vec![None; answers.len()];
        let mut last = Outcome::Pending;
        while last == Outcome::Pending && !asked.is_empty() {
            let next = asked.swap_remove((order % asked.len() as u64) as usize);
            order = order.rotate_right(7);
            heard[next] = answers[next];
            let (mut outcome, _) = scene.step(&format!("r{next}={}", answers[next].unwrap_or('-')));
            while let Outcome::Ask(number) = outcome {
                asked.push(usize::from(number));
                outcome = scene.gather.ask_on();
            }
            last = outcome;
        }
        let majority = ['A', 'B'].into_iter().find(|letter| heard.iter().filter(|said| **said == Some(*letter)).count() >= enough);
        let good = heard.iter().flatten().count();
        match last {
            Outcome::Won { agreed: true, .. } => prop_assert!(majority.is_some()),
            Outcome::Won { .. } => prop_assert!(need == Need::Quorum && majority.is_none() && good >= enough),
            Outcome::Lost => prop_assert!(by_definition(need, &answers).is_none()),
            other => prop_assert!(false, "{:?}", other),
        }
        // Nobody was asked for nothing, and nobody is left who could have helped.
        prop_assert!(majority.is_some() || !scene.gather.holds_back());
    }
}
