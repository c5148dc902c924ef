//! Clients that change their habits, each reply checked against a model, while the fast path is switched off and on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use dynomite_tests::resp::request;
use dynomite_tests::{Client, Node, Random, Value, random};

struct Model {
    random: Random,
    number: usize,
    held: HashMap<usize, Vec<u8>>,
}

type Asked = (Vec<u8>, Value);

impl Model {
    fn value(&mut self) -> Vec<u8> {
        let len = match self.random.below(1000) {
            0 => 1 << 20,
            1..40 => self.random.below(40_000),
            40..60 => 60_000 + self.random.below(10_000),
            60..70 => 0,
            _ => self.random.below(200),
        };
        self.random.bytes(len)
    }

    fn step(&mut self, writes_in_ten: usize) -> Asked {
        let key = self.random.below(8);
        let name = format!("client:{}:{key}", self.number);
        if self.random.below(10) < writes_in_ten {
            let value = self.value();
            self.held.insert(key, value.clone());
            return (request([&b"SET"[..], name.as_bytes(), &value]), Value::ok());
        }
        let held = self.held.get(&key);
        match self.random.below(8) {
            0 => {
                let len = held.map_or(0, Vec::len) as i64;
                (request(["STRLEN", &name]), Value::Integer(len))
            }
            1 => (request(["EXISTS", &name]), Value::Integer(held.is_some().into())),
            2 => (request(["PING"]), Value::Simple("PONG".into())),
            _ => (request(["GET", &name]), held.map_or(Value::Null, |held| Value::Bulk(held.clone()))),
        }
    }
}

/// One at a time, then in bursts, then in pieces, and back; some connections are left in the middle of it.
fn client(node: &Node, number: usize, seed: u64, end: Instant) -> u64 {
    let mut model = Model { random: Random::from_seed(seed ^ (number as u64) << 40), number, held: HashMap::new() };
    let mut checked = 0;
    while Instant::now() < end {
        let mut client = node.client();
        for _ in 0..1 + model.random.below(12) {
            let is_patient = !model.random.one_in(4);
            let steps = if is_patient { model.random.below(300) } else { 1 + model.random.below(20) };
            let writes_in_ten = model.random.pick(&[0, 1, 5]);
            for _ in 0..steps {
                checked += turn(&mut client, &mut model, is_patient, writes_in_ten);
                if Instant::now() > end {
                    return checked;
                }
            }
        }
    }
    checked
}

fn turn(client: &mut Client, model: &mut Model, is_patient: bool, writes_in_ten: usize) -> u64 {
    let burst = if is_patient { 1 } else { 1 + model.random.below(30) };
    let asked: Vec<Asked> = (0..burst).map(|_| model.step(writes_in_ten)).collect();
    let bytes: Vec<u8> = asked.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
    let mut cuts: Vec<usize> = match model.random.below(if is_patient { 100 } else { 3 }) {
        0 => (0..3).map(|_| model.random.below(bytes.len())).collect(),
        _ => Vec::new(),
    };
    cuts.sort_unstable();
    let mut writer = client.writer();
    std::thread::scope(|scope| {
        // A burst may be larger than what fits on the way; replies are read meanwhile.
        let writing = (bytes.len() > 60_000).then(|| scope.spawn(|| writer.send_cut(&bytes, &cuts)));
        if writing.is_none() {
            client.send_cut(&bytes, &cuts);
        }
        for (bytes, expected) in &asked {
            let got = client.reply();
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
            assert!(got == *expected, "{shown:?}\n should be {}\n is        {}", short(expected), short(&got));
        }
        if let Some(writing) = writing {
            writing.join().expect("no panic").expect("written");
        }
    });
    asked.len() as u64
}

fn short(value: &Value) -> String {
    let text = format!("{value:?}");
    format!("{}… ({} letters)", &text[..text.len().min(80)], text.len())
}

fn check(lines: &[&str], seconds: u64, disturb: impl Fn(&Node, &AtomicBool) + Sync) {
    let _alone = crate::alone();
    let Some((_datastore, node)) = crate::node(lines) else { return };
    let seed = random::seed();
    let end = Instant::now() + random::seconds(seconds);
    let is_over = AtomicBool::new(false);
    let checked: u64 = std::thread::scope(|scope| {
        scope.spawn(|| disturb(&node, &is_over));
        let clients: Vec<_> = (0..12)
            .map(|number| {
                scope.spawn({
                    let node = &node;
                    move || client(node, number, seed, end)
                })
            })
            .collect();
        let checked = clients.into_iter().map(|client| client.join());
        let checked: Vec<_> = checked.collect();
        is_over.store(true, Ordering::Relaxed);
        checked.into_iter().map(|checked| checked.unwrap_or_else(|_| panic!("a wrong reply, seed {seed}"))).sum()
    });
    let (adopted, routed) = (crate::count(&node, "flows_adopted"), crate::verdicts(&node, "routed"));
    println!("{checked} replies checked, {routed} of them routed, {adopted} adoptions");
    println!("broken {} torn {}", crate::count(&node, "flows_broken"), crate::count(&node, "flows_torn"));
    assert!(checked > 1_000 && adopted > 3 && routed > 100, "{checked} checked, {routed} routed, {adopted} adopted");
}

fn nothing(_: &Node, _: &AtomicBool) {}

#[test]
fn replies_are_those_of_a_model_whatever_the_habit() {
    check(&[], 10, nothing);
}

#[test]
fn also_over_one_worker_and_few_flows() {
    check(&["workers: 1", "datastore_connections: 1"], 6, nothing);
}

#[test]
fn also_while_it_is_switched_off_and_on() {
    check(&[], 10, |node, is_over| {
        while !is_over.load(Ordering::Relaxed) {
            for path in ["/kernel/off", "/kernel/on", "/set_consistency/read/dc_quorum", "/set_consistency/read/dc_one"]
            {
                assert!(node.get(path).starts_with("OK"), "{path}");
                std::thread::sleep(std::time::Duration::from_millis(70));
            }
        }
    });
}
