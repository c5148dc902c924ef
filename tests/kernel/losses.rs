//! A datastore that dies, a node that dies.

use std::time::{Duration, Instant};

use dynomite_tests::{Answer, Client, Fake, Kind, Node, Settings, Value, until};

use crate::{adopted, count, node};

#[test]
fn a_datastore_killed_under_routed_load_costs_errors_and_no_connection() {
    let _alone = crate::alone();
    let Some((mut datastore, node)) = node(&["timeout: 2000"]) else { return };
    let mut clients: Vec<Client> = (0..10).map(|_| adopted(&node)).collect();
    datastore.pause();
    for client in &mut clients {
        client.send(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    }
    let killed = Instant::now();
    datastore.kill();
    for client in &mut clients {
        assert!(matches!(client.reply(), Value::Error(_)), "an answer of a datastore that is dead");
    }
    assert!(killed.elapsed() < Duration::from_secs(2), "errors after {:?}", killed.elapsed());
    datastore.restart();
    for client in &mut clients {
        until("the client is served again", || client.ask("GET k") == Value::Null);
    }
    // Every worker has to have found the datastore again, whichever takes a new client.
    until("new clients are served", || (0..10).all(|_| node.client().ask("GET k") == Value::Null));
    assert_eq!(count(&node, "flows_given_up"), 10, "each is given up once");
    adopted(&node);
}

#[test]
fn a_datastore_that_does_not_answer_costs_an_error_after_the_timeout() {
    let _alone = crate::alone();
    let Some((datastore, node)) = node(&["timeout: 500"]) else { return };
    let mut client = adopted(&node);
    datastore.pause();
    let start = Instant::now();
    client.send(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    assert!(matches!(client.reply(), Value::Error(_)));
    let took = start.elapsed();
    assert!(took > Duration::from_millis(400) && took < Duration::from_secs(8), "after {took:?}");
    datastore.resume();
    until("the client is served again", || client.ask("GET k") == Value::Null);
    assert!(count(&node, "watchdog_trips") > 0);
}

#[test]
fn a_client_that_resets_is_no_loss_of_the_datastore() {
    let _alone = crate::alone();
    let Some((_datastore, node)) = node(&[]) else { return };
    for _ in 0..20 {
        let mut client = adopted(&node);
        client.send(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
        client.reset();
    }
    until("their flows are gone", || count(&node, "flows_now") == 0);
    assert_eq!(count(&node, "flows_given_up"), 0);
}

/// A datastore that never answers one key, and everything else at once: to the node that is a kernel that lost something.
#[test]
fn flows_that_stand_still_while_others_move_end_the_fast_path() {
    let _alone = crate::alone();
    if crate::cgroup().is_none() {
        return;
    }
    let fake = Fake::start(|words| match words {
        [get, key] if get == "GET" && key == "lost" => Answer::After(Duration::from_secs(600), Vec::new()),
        [get, _] if get == "GET" => Answer::Reply(b"$-1\r\n".to_vec()),
        _ => Answer::Reply(b"+OK\r\n".to_vec()),
    });
    let settings = Settings { server: fake.server(), embedded: false, ..Settings::embedded(Kind::Redis) };
    let node = Node::start(settings.line("kernel: {mode: required}").line("timeout: 500"));
    let mut others: Vec<Client> = (0..2).map(|_| adopted(&node)).collect();
    for trip in 1..=3 {
        let mut client = adopted(&node);
        client.send(b"*2\r\n$3\r\nGET\r\n$4\r\nlost\r\n");
        until("the flow is given up", || {
            others.iter_mut().for_each(|other| assert_eq!(other.ask("GET nothing-here"), Value::Null));
            count(&node, "watchdog_trips") == trip
        });
        assert!(matches!(client.reply(), Value::Error(_)));
    }
    until("the fast path is off", || count(&node, "route_on") == 0);
    assert!(node.get("/kernel").contains("stood still"));
    others.iter_mut().for_each(|other| assert_eq!(other.ask("GET nothing-here"), Value::Null));
    node.get("/kernel/on");
    until("the fast path is on again", || count(&node, "route_on") == 1);
    adopted(&node);
}

/// Numbers of programs, maps and links in the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
struct Loaded {
    programs: Vec<u32>,
    maps: Vec<u32>,
    links: Vec<u32>,
}

impl Loaded {
    /// Those of one process: what it holds, and what its programs use.
    fn by(process: i32) -> Loaded {
        let mut loaded = Loaded::default();
        for file in std::fs::read_dir(format!("/proc/{process}/fdinfo")).expect("the process runs").flatten() {
            let text = std::fs::read_to_string(file.path()).unwrap_or_default();
            let number = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok());
            loaded.programs.extend(number("prog_id:"));
            loaded.maps.extend(number("map_id:"));
            loaded.links.extend(number("link_id:"));
        }
        let programs = aya::programs::loaded_programs().filter_map(Result::ok);
        for program in programs.filter(|program| loaded.programs.contains(&program.id())) {
            loaded.maps.extend(program.map_ids().ok().flatten().unwrap_or_default());
        }
        loaded
    }

    /// What is still there of it.
    fn left(&self) -> Loaded {
        let programs = aya::programs::loaded_programs().filter_map(Result::ok).map(|program| program.id());
        let maps = aya::maps::loaded_maps().filter_map(Result::ok).map(|map| map.id());
        let links = aya::programs::loaded_links().filter_map(Result::ok).map(|link| link.id());
        Loaded {
            programs: programs.filter(|id| self.programs.contains(id)).collect(),
            maps: maps.filter(|id| self.maps.contains(id)).collect(),
            links: links.filter(|id| self.links.contains(id)).collect(),
        }
    }
}

#[test]
fn a_killed_node_leaves_nothing_behind() {
    let _alone = crate::alone();
    let Some((datastore, mut node)) = node(&[]) else { return };
    let mut client = adopted(&node);
    let loaded = Loaded::by(node.process().pid());
    let Loaded { programs, maps, links } = &loaded;
    assert!(programs.len() >= 3 && maps.len() >= 9 && !links.is_empty(), "{loaded:?}");
    assert_ne!(loaded.left(), Loaded::default());
    node.kill();
    assert!(client.rest().is_empty(), "bytes after the end");
    until("its programs, maps and links are gone", || loaded.left() == Loaded::default());
    until("the datastore has no clients of ours", || {
        let Value::Bulk(list) = datastore.client().ask("CLIENT LIST") else { return false };
        String::from_utf8_lossy(&list).lines().count() == 1
    });
    node.restart();
    adopted(&node);
}
