//! What we make of RESP2 replies for RESP3 clients against what Redis says to such clients.
//! Two databases of one Redis hold the same; one is asked in RESP2, the other in RESP3.

use dynomite_tests::samples::{Likeness, SAMPLES, SETUP, Sample};
use dynomite_tests::{Client, Datastore, Random, Value, random, resp};
use dynomite_user::protocol::resp::resp3::{convert, shape_of};

struct Pair {
    resp2: Client,
    resp3: Client,
}

impl Pair {
    fn connect(redis: &Datastore) -> Pair {
        let (mut resp2, mut resp3) = (redis.client(), redis.client());
        resp2.ask("SELECT 1");
        resp3.ask("SELECT 2");
        resp3.ask("HELLO 3");
        Pair { resp2, resp3 }
    }

    fn reset(&mut self) {
        for client in [&mut self.resp2, &mut self.resp3] {
            client.ask("FLUSHDB");
            SETUP.iter().for_each(|line| _ = client.ask(line));
        }
    }

    #[track_caller]
    fn check(&mut self, sample: &Sample, random: &mut Random) {
        let frame = resp::request(sample.request(random));
        // What we refuse is not forwarded; the two replies would be the same error.
        let Ok(shape) = super::decode(&frame, |request| shape_of(&request)) else { return };
        self.resp2.send(&frame);
        self.resp3.send(&frame);
        let (reply2, reply3) = (self.resp2.frame(), self.resp3.frame());
        let mut ours = Vec::new();
        convert(shape, &reply2, &mut ours);
        let same = match sample.likeness {
            Likeness::Bytes => ours == reply3,
            Likeness::Kinds => kinds(&ours) == kinds(&reply3),
        };
        assert!(
            same,
            "{}\n resp2 {}\n  ours {}\n redis {}",
            frame.escape_ascii(),
            reply2.escape_ascii(),
            ours.escape_ascii(),
            reply3.escape_ascii()
        );
    }
}

/// A reply without what its strings and numbers say.
fn kinds(reply: &[u8]) -> String {
    fn kind(value: &Value) -> String {
        let all = |values: &[Value]| values.iter().map(kind).collect::<String>();
        match value {
            Value::Array(values) => format!("*{}({})", values.len(), all(values)),
            Value::Set(values) => format!("~{}({})", values.len(), all(values)),
            Value::Push(values) => format!(">{}({})", values.len(), all(values)),
            Value::Map(pairs) => {
                let pairs: String = pairs.iter().map(|(key, value)| format!("{}{} ", kind(key), kind(value))).collect();
                format!("%({pairs})")
            }
            Value::Simple(_) => "+".into(),
            Value::Error(text) => format!("-{text}"),
            Value::Integer(_) => ":".into(),
            Value::Bulk(_) => "$".into(),
            Value::Null => "_".into(),
            Value::Double(_) => ",".into(),
            Value::Boolean(_) => "#".into(),
            Value::BigNumber(_) => "(".into(),
            Value::Verbatim(_) => "=".into(),
        }
    }
    kind(&Value::parse(reply).expect("a whole reply").0)
}

/// It looks often whether who waits has waited long enough.
fn start() -> Option<Datastore> {
    super::redis(&["--hz", "500"])
}

#[test]
fn every_command_says_in_resp3_what_redis_says() {
    let Some(redis) = start() else { return };
    let mut pair = Pair::connect(&redis);
    let mut random = Random::from_seed(random::seed());
    for sample in SAMPLES {
        pair.reset();
        for _ in 0..30 {
            pair.check(sample, &mut random);
        }
    }
}

/// One after the other, so that each finds what others left.
#[test]
fn random_sequences_say_in_resp3_what_redis_says() {
    let Some(redis) = start() else { return };
    let mut pair = Pair::connect(&redis);
    let mut random = Random::from_seed(random::seed());
    for _ in 0..20 {
        pair.reset();
        for _ in 0..400 {
            let sample = random.pick(SAMPLES);
            // Waiting is no use here, and flushing neither.
            if sample.name.starts_with("flush") || sample.pattern.contains("0.001") || sample.name.ends_with("block") {
                continue;
            }
            pair.check(&sample, &mut random);
        }
    }
}
