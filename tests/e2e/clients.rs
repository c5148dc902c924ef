//! Clients off the shelf, with their default settings, in three languages.

use std::path::Path;
use std::process::Command;

use dynomite_tests::need::{need, skip, tools};
use dynomite_tests::{Datastore, Kind, Node, Settings};
use redis::TypedCommands;

/// Runs a client's script against the node; it says `fine` or what was wrong.
#[track_caller]
fn check(mut command: Command, script: &str, node: &Node) {
    let address = node.address();
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/clients").join(script));
    let output =
        command.args([address.ip().to_string(), address.port().to_string()]).output().expect("the interpreter starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.ends_with("fine\n"), "{script}:\n{said}");
}

/// A Python that has this module among what `cargo xtask test` brought, or by itself.
fn python(interpreter: &str, module: &str, own: bool) -> Option<Command> {
    let mut command = Command::new(need(interpreter)?);
    if !own {
        command.env("PYTHONPATH", tools().join("python"));
    }
    let mut probe = Command::new(command.get_program());
    probe
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .args(["-c", &format!("import {module}")]);
    if !probe.output().is_ok_and(|output| output.status.success()) {
        skip(&format!("{interpreter} has no {module}"));
        return None;
    }
    Some(command)
}

#[test]
fn redis_py_of_today() {
    let (Some(python), Some(datastore)) = (python("python3", "redis", false), Datastore::redis()) else { return };
    check(python, "redis_py.py", &Node::before(&datastore));
}

/// Debian's, of the time before HELLO.
#[test]
fn redis_py_of_the_distribution() {
    if !Path::new("/usr/bin/python3").exists() {
        return skip("there is no /usr/bin/python3");
    }
    let (Some(python), Some(datastore)) = (python("/usr/bin/python3", "redis", true), Datastore::redis()) else {
        return;
    };
    check(python, "redis_py.py", &Node::before(&datastore));
}

#[test]
fn ioredis() {
    let (Some(program), Some(datastore)) = (need("node"), Datastore::redis()) else { return };
    let modules = tools().join("node/node_modules");
    if !modules.join("ioredis").is_dir() {
        return skip("ioredis is not installed");
    }
    let mut command = Command::new(program);
    command.env("NODE_PATH", modules);
    check(command, "ioredis.js", &Node::before(&datastore));
}

#[test]
fn pymemcache() {
    let (Some(python), Some(datastore)) = (python("python3", "pymemcache", false), Datastore::memcached()) else {
        return;
    };
    check(python, "pymemcache_py.py", &Node::before(&datastore));
}

#[test]
fn redis_rs() {
    let Some(datastore) = Datastore::redis() else { return };
    let node = Node::before(&datastore);
    for protocol in ["resp2", "resp3"] {
        check_redis_rs(&format!("redis://{}/?protocol={protocol}", node.address()));
    }
}

#[test]
fn redis_rs_before_the_embedded_datastore() {
    let node = Node::start(Settings::embedded(Kind::Redis));
    check_redis_rs(&format!("redis://{}/?protocol=resp3", node.address()));
}

fn check_redis_rs(url: &str) {
    let client = redis::Client::open(url).expect("a url");
    let mut connection = client.get_connection().expect("connects");
    redis::cmd("FLUSHALL").exec(&mut connection).expect("FLUSHALL");
    connection.set("s", "hello").expect("SET");
    assert_eq!(connection.get("s").expect("GET").as_deref(), Some("hello"));
    assert_eq!(connection.get("none").expect("GET"), None);
    assert_eq!(connection.hset("h", "f", 1).expect("HSET"), 1);
    assert_eq!(connection.hgetall("h").expect("HGETALL").get("f").map(String::as_str), Some("1"));
    assert_eq!(connection.sadd("e", &["a", "b"]).expect("SADD"), 2);
    assert_eq!(connection.smembers("e").expect("SMEMBERS").len(), 2);
    assert_eq!(connection.zadd("z", "m", 1.5).expect("ZADD"), 1);
    assert_eq!(connection.zscore("z", "m").expect("ZSCORE"), Some(1.5));
    let all: (i64, i64, Vec<Option<String>>) =
        redis::pipe().atomic().incr("n", 1).incr("n", 2).mget(&["s", "none"]).query(&mut connection).expect("MULTI");
    assert_eq!(all, (1, 3, vec![Some("hello".into()), None]));
    let mut other = client.get_connection().expect("connects");
    let mut pubsub = other.as_pubsub();
    pubsub.subscribe("news").expect("SUBSCRIBE");
    assert_eq!(connection.publish("news", "first").expect("PUBLISH"), 1);
    assert_eq!(pubsub.get_message().expect("a message").get_payload::<String>().expect("text"), "first");
}
