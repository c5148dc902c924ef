//! What the node answers itself against what Redis answers, word for word.

use dynomite_tests::{Client, Datastore, Value, resp};
use dynomite_user::protocol::resp::session::{Answer, NodeFacts, REDIS_VERSION, Session};

/// A session of ours and a connection to Redis that hear the same.
struct Both {
    session: Session,
    requirepass: Option<&'static str>,
    client: Client,
    /// The version as Redis says it in HELLO, and as we do.
    versions: [String; 2],
}

impl Both {
    fn connect(redis: &Datastore, requirepass: Option<&'static str>) -> Both {
        let mut client = redis.client();
        let id = match requirepass {
            // Nobody else connects, so that Redis counts on by one.
            Some(password) => {
                let mut other = redis.client();
                other.call(["AUTH", password]);
                let id = other.ask("CLIENT ID").integer().expect("an id");
                client = redis.client();
                id + 1
            }
            None => client.ask("CLIENT ID").integer().expect("an id"),
        };
        let versions = [super::version(redis), REDIS_VERSION.to_string()]
            .map(|version| format!("${}\\r\\n{version}", version.len()));
        Both { session: Session::new(id as u64, requirepass), requirepass, client, versions }
    }

    fn ask(&mut self, words: &[&str]) -> (String, String) {
        let frame = resp::request(words);
        let mut ours = Vec::new();
        let facts = NodeFacts { requirepass: self.requirepass, epoch_micros: 0 };
        let refused = super::decode(&frame, |request| {
            let answer = self.session.answer(&request, &facts, &mut ours);
            assert!(!matches!(answer, Answer::Clients(_) | Answer::Level(_)), "{words:?}");
        });
        if let Err(error) = refused {
            ours = error;
        }
        self.client.send(&frame);
        let theirs = self.client.frame().escape_ascii().to_string();
        (ours.escape_ascii().to_string(), theirs.replace(&self.versions[0], &self.versions[1]))
    }

    #[track_caller]
    fn check(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').map(|word| if word == "EMPTY" { "" } else { word }).collect();
        let (ours, theirs) = self.ask(&words);
        assert_eq!(ours, theirs, "{line}");
    }
}

#[test]
fn the_same_words_without_a_password() {
    let Some(redis) = super::redis(&[]) else { return };
    let mut both = Both::connect(&redis, None);
    let lines = "ping|ping x|ping a b|echo x|echo|auth x|auth default x|auth other x|auth a b c|hello x|hello 1|hello 4|\
        hello 99999999999999999999|hello 2 setname a\rb|hello 2 setname me|client getname|hello 2 auth other x|hello 3|\
        client getname|hello|hello 2 auth default|hello 2 foo|hello 2 setname|hello 2 setname EMPTY|client getname|hello 2|\
        select 0|select x|select 16|select -1|client setname me|client getname|client setname a\nb|client setname EMPTY|\
        client getname|client no-evict on|client no-evict off|client no-evict x|client list foo|client list type|\
        client list type x|client list id x|client list id|client reply on|client reply x|client getredir|\
        client trackinginfo|hello 3|client trackinginfo|hello 2|acl whoami|command getkeys foo a|command getkeys get|\
        command getkeys get a b|command getkeys get a|command getkeys ping x|command getkeys mset a 1 b 2|\
        command getkeys eval x 0|command getkeys eval x 2 a b|command getkeys zunionstore d 2 a b|command getkeys xread streams a b 0 0|\
        command getkeys sort a store b|command getkeysandflags get a|command info foo|command docs foo|\
        command list filterby x y|command list filterby module x|command list filterby aclcat nothing|command list filterby|reset|\
        client getname|quit";
    lines.split('|').for_each(|line| both.check(line));
}

#[test]
fn the_same_words_with_a_password() {
    let Some(redis) = super::redis(&["--requirepass", super::PASSWORD]) else { return };
    let mut both = Both::connect(&redis, Some(super::PASSWORD));
    let lines = "ping|echo x|get|foo|hello|hello 3|hello 2 setname x|hello 3 auth default wrong|client setname x|auth wrong|\
        auth default wrong|auth other secret|auth a b c|select 0|command|reset|auth secret|ping|reset|ping|quit";
    lines.split('|').for_each(|line| both.check(line));
    let mut both = Both::connect(&redis, Some(super::PASSWORD));
    let lines = "auth default secret|ping|hello 2 auth default wrong|ping";
    lines.split('|').for_each(|line| both.check(line));
}

/// Names and numbers of COMMAND INFO: what clients route by.
#[test]
fn commands_are_described_as_redis_does() {
    let Some(redis) = super::redis(&[]) else { return };
    let mut both = Both::connect(&redis, None);
    let mut names: Vec<String> = both.client.ask("COMMAND LIST").elements().iter().map(Value::text).collect();
    names.sort();
    for name in names {
        let mut ask = |words: &[&str]| {
            let frame = resp::request(words);
            let mut ours = Vec::new();
            let facts = NodeFacts { requirepass: None, epoch_micros: 0 };
            super::decode(&frame, |request| _ = both.session.answer(&request, &facts, &mut ours)).expect("a request");
            (Value::parse(&ours).expect("a whole reply").0, both.client.call(words))
        };
        let (ours, theirs) = ask(&["COMMAND", "INFO", &name]);
        let facts = |info: &Value| {
            let [info] = info.elements() else { panic!("{name}: {info:?}") };
            let [name, arity, flags, first, last, step, categories, .., subcommands] = info.elements() else {
                panic!("{name}: {info:?}")
            };
            let with_subcommands = !subcommands.elements().is_empty();
            let mut flags: Vec<String> = flags.elements().iter().map(Value::text).collect();
            let is_refused = flags.contains(&"admin".to_owned());
            flags.retain(|flag| ["write", "readonly", "fast", "blocking", "movablekeys"].contains(&flag.as_str()));
            let mut words: Vec<String> = categories.elements().iter().map(Value::text).chain(flags).collect();
            words.sort();
            (format!("{name:?} {arity:?} {first:?} {last:?} {step:?} {with_subcommands}"), words, is_refused)
        };
        // A message goes everywhere, whatever its channel; there is nothing to route.
        let channels = ["spublish", "ssubscribe", "sunsubscribe"];
        // Refused, wherever its keys may be.
        let refused = ["migrate", "move", "pfdebug", "restore-asking"];
        if !channels.contains(&name.as_str()) && !refused.contains(&name.as_str()) {
            let (ours, theirs) = (facts(&ours), facts(&theirs));
            assert_eq!(ours.0, theirs.0, "{name}");
            // Nor does it matter in which category the help is; and WAIT waits for copies that there are none of.
            if !ours.2 && !name.ends_with("|help") && name != "wait" {
                assert_eq!(ours.1, theirs.1, "{name}");
            }
        }
        let (ours, theirs) = ask(&["COMMAND", "DOCS", &name]);
        let group = |docs: &Value| docs.at(&name).and_then(|doc| doc.at("group")).map(Value::text);
        assert_eq!(group(&ours), group(&theirs), "{name}");
    }
}
