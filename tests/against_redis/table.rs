//! The command table against `COMMAND` and `COMMAND GETKEYS`.

use dynomite_tests::samples::{SAMPLES, SETUP};
use dynomite_tests::{Client, Random, Value, random, resp};
use dynomite_user::protocol::commands::{Kind, Routing};
use dynomite_user::protocol::resp::commands::{COMMANDS, find};

/// What `COMMAND` says of commands and their subcommands: name, arity, flags.
fn commands(client: &mut Client) -> Vec<(String, i64, Vec<String>)> {
    let mut found = Vec::new();
    let mut left = client.ask("COMMAND").elements().to_vec();
    while let Some(entry) = left.pop() {
        let [name, arity, flags, .., subcommands] = entry.elements() else { panic!("{entry:?}") };
        let flags = flags.elements().iter().map(Value::text).collect();
        match subcommands.elements() {
            [] => found.push((name.text(), arity.integer().expect("an arity"), flags)),
            subcommands => left.extend_from_slice(subcommands),
        }
    }
    found
}

#[test]
fn every_command_of_redis_is_in_the_table_with_its_arity() {
    let Some(redis) = super::redis(&[]) else { return };
    let commands = commands(&mut redis.client());
    assert!(commands.len() > 300, "{}", commands.len());
    let wrong: Vec<_> = commands
        .iter()
        .filter(|(name, arity, _)| find(name.as_bytes()).is_none_or(|row| i64::from(row.arity) != *arity))
        .map(|(name, arity, _)| format!("{name} {arity}"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Read or write, by Redis' flags. Where we say otherwise, the reason stands here.
#[test]
fn reads_are_reads_and_writes_are_writes() {
    const OTHERWISE: &[&str] = &[
        // Redis says write because of an option, which has a row of its own with us.
        "sort",
        "georadius",
        "georadiusbymember",
        // Redis leaves it to the script or function; ours must reach every replica.
        "eval",
        "evalsha",
        "fcall",
        // Redis does not call these writes, but they change something on every node.
        "function kill",
        "script flush",
        "script kill",
        "script load",
        "publish",
        "spublish",
        "exec",
        "replicaof",
        "slaveof",
    ];
    let Some(redis) = super::redis(&[]) else { return };
    for (name, _, flags) in commands(&mut redis.client()) {
        let row = find(name.as_bytes()).expect("in the table");
        if OTHERWISE.contains(&row.name) || matches!(row.routing, Routing::Refused(_)) {
            continue;
        }
        let writes = flags.iter().any(|flag| flag == "write");
        assert_eq!(row.kind == Kind::Write, writes, "{name}: {flags:?}");
    }
}

#[test]
fn keys_are_where_redis_finds_them() {
    let Some(redis) = super::redis(&[]) else { return };
    let mut client = redis.client();
    let mut random = Random::from_seed(random::seed());
    for sample in SAMPLES {
        for _ in 0..40 {
            let request = sample.request(&mut random);
            let frame = resp::request(&request);
            let Ok((ours, name)) = super::decode(&frame, |request| {
                let keys: Vec<_> = request.keys().map(<[u8]>::to_vec).collect();
                assert_eq!(request.key, keys.first().map(Vec::as_slice));
                (keys, request.command.name)
            }) else {
                continue;
            };
            assert_eq!(name, sample.name, "{}", frame.escape_ascii());
            let asked = [&["COMMAND", "GETKEYS"].map(|word| word.as_bytes().to_vec())[..], &request].concat();
            match client.call(&asked) {
                Value::Error(error) => {
                    let expected = [
                        "The command has no key arguments",
                        "Invalid arguments specified for command",
                        "wrong number of arguments for 'command|getkeys'", // a name alone
                    ];
                    assert!(expected.iter().any(|text| error.contains(text)), "{error}");
                    // A destination is still a key to us when what counts the sources makes no sense.
                    // Redis asks PFMERGE for a source when it is asked for keys, but not when it executes.
                    let destination = (name.ends_with("store") || name == "pfmerge") && ours.len() == 1;
                    assert!(ours.is_empty() || destination, "{}: {ours:?}, but {error}", frame.escape_ascii());
                }
                keys if keys.elements().is_empty() => assert!(ours.is_empty(), "{}: {ours:?}", frame.escape_ascii()),
                // No keys to us: then the request is one that Redis refuses.
                _ if ours.is_empty() => assert!(client.call(&request).is_error(), "{}", frame.escape_ascii()),
                keys => {
                    let (mut ours, mut theirs) = (ours, keys.elements().iter().map(bytes).collect::<Vec<_>>());
                    ours.sort();
                    theirs.sort();
                    assert_eq!(ours, theirs, "{}", frame.escape_ascii());
                }
            }
        }
    }
}

/// What the kernel may serve is answered in one element, whatever the arguments.
#[test]
fn fast_commands_say_one_thing() {
    let Some(redis) = super::redis(&[]) else { return };
    let mut client = redis.client();
    let mut random = Random::from_seed(random::seed());
    for sample in SAMPLES {
        SETUP.iter().for_each(|line| _ = client.ask(line));
        for _ in 0..40 {
            let frame = resp::request(sample.request(&mut random));
            if let Ok(true) = super::decode(&frame, |request| request.command.fast || request.command.fast_alone) {
                client.send(&frame);
                let reply = client.frame();
                assert!(b"+-:$".contains(&reply[0]), "{}: {}", frame.escape_ascii(), reply.escape_ascii());
            }
        }
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::Bulk(bytes) => bytes.clone(),
        other => panic!("{other:?}"),
    }
}

/// Whoever adds a row adds samples of it.
#[test]
fn every_row_that_a_datastore_answers_has_samples() {
    let answered = |routing| !matches!(routing, Routing::Node | Routing::Refused(_));
    let stateful = ["multi", "watch", "exec", "discard", "unwatch"];
    let without: Vec<_> = COMMANDS
        .iter()
        .filter(|row| answered(row.routing) && !row.name.starts_with("json.") && !row.name.ends_with("subscribe"))
        .filter(|row| !stateful.contains(&row.name))
        .filter(|row| !SAMPLES.iter().any(|sample| sample.name == row.name))
        .map(|row| row.name)
        .collect();
    assert!(without.is_empty(), "{without:?}");
}
