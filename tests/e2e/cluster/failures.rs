//! Nodes, datastores and links that die, stall and come back under load: clients see errors only where their level cannot
//! be met, nothing takes longer than it may, and all mends by itself.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dynomite_tests::{Client, Cluster, Shape, Value, until};

/// Clients that write and read keys of their own, each through one node, until they are stopped. A key's last value that
/// was acknowledged must be read; after an error also the one that may have been written.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    answered: AtomicU64,
    errors: Mutex<Vec<String>>,
    slowest: Mutex<Duration>,
}

impl Load {
    fn run(&self, number: usize, address: SocketAddr) {
        let mut client = Client::connect(address);
        let mut known: Vec<Vec<Value>> = vec![vec![Value::Null]; 16];
        let mut turn = 0;
        while !self.stop.load(Ordering::Relaxed) {
            turn += 1;
            let place = turn % known.len();
            let key = format!("{number}:{place}");
            let value = format!("{number}-{turn}");
            match self.ask(&mut client, &format!("SET {key} {value}")) {
                Ok(reply) => {
                    assert_eq!(reply, Value::ok());
                    known[place] = vec![Value::bulk(&value)];
                }
                Err(()) => known[place].push(Value::bulk(&value)),
            }
            if let Ok(reply) = self.ask(&mut client, &format!("GET {key}")) {
                assert!(known[place].contains(&reply), "{key} is {reply:?}, should be one of {:?}", known[place]);
            }
        }
    }

    fn ask(&self, client: &mut Client, line: &str) -> Result<Value, ()> {
        let start = Instant::now();
        let reply = client.ask(line);
        let took = start.elapsed();
        let mut slowest = self.slowest.lock().expect("nobody panics with it");
        *slowest = took.max(*slowest);
        if reply.is_error() {
            self.errors.lock().expect("nobody panics with it").push(format!("{line}: {}", reply.text()));
            return Err(());
        }
        self.answered.fetch_add(1, Ordering::Relaxed);
        Ok(reply)
    }

    /// Waits for so many further answers.
    #[track_caller]
    fn until_answered(&self, more: u64) {
        let before = self.answered.load(Ordering::Relaxed);
        until("requests are answered", || self.answered.load(Ordering::Relaxed) >= before + more);
    }

    fn errors(&self) -> Vec<String> {
        self.errors.lock().expect("nobody panics with it").clone()
    }

    #[track_caller]
    fn until_errors(&self, more: usize) {
        let before = self.errors().len();
        until("requests are refused", || self.errors().len() >= before + more);
    }

    fn slowest(&self) -> Duration {
        *self.slowest.lock().expect("nobody panics with it")
    }
}

/// Stops the load also when the story fails.
struct Stop<'a>(&'a Load);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Runs the load through some nodes while a story is told. Whoever read a wrong value has panicked.
fn under_load(cluster: &mut Cluster, nodes: &[usize], story: impl FnOnce(&mut Cluster, &Load)) -> Load {
    let load = Load::default();
    std::thread::scope(|scope| {
        let stop = Stop(&load);
        for (number, &node) in nodes.iter().cycle().take(2 * nodes.len()).enumerate() {
            let (load, address) = (&load, cluster.members[node].node.address());
            scope.spawn(move || load.run(number, address));
        }
        load.until_answered(500);
        story(cluster, &load);
        drop(stop);
    });
    load
}

fn quorum(shape: Shape) -> Shape {
    shape.line("read_consistency: dc_quorum").line("write_consistency: dc_quorum").line("timeout: 1000")
}

#[test]
fn a_node_that_dies_and_comes_back_is_not_missed_at_quorum() {
    let Some(mut cluster) = Cluster::start(quorum(Shape::redis(1, 3, 1))) else { return };
    let load = under_load(&mut cluster, &[0, 1], |cluster, load| {
        for _ in 0..3 {
            cluster.members[2].node.kill();
            load.until_answered(1000);
            cluster.members[2].node.restart();
            cluster.until_connected();
            load.until_answered(500);
        }
    });
    assert_eq!(load.errors(), Vec::<String>::new());
    assert!(load.slowest() < Duration::from_secs(1), "an answer took {:?}", load.slowest());
}

#[test]
fn a_datastore_that_dies_and_comes_back_is_not_missed_at_quorum() {
    let Some(mut cluster) = Cluster::start(quorum(Shape::redis(1, 3, 1)).line("server_retry_timeout: 100")) else {
        return;
    };
    let load = under_load(&mut cluster, &[0, 1, 2], |cluster, load| {
        for _ in 0..3 {
            let datastore = cluster.members[2].datastore.as_mut().expect("it has one");
            datastore.kill();
            load.until_answered(1000);
            datastore.restart();
            load.until_answered(1000);
        }
    });
    assert_eq!(load.errors(), Vec::<String>::new());
    assert!(load.slowest() < Duration::from_secs(2), "an answer took {:?}", load.slowest());
}

#[test]
fn a_node_that_stalls_holds_up_nobody_at_quorum() {
    let Some(mut cluster) = Cluster::start(quorum(Shape::redis(1, 3, 1))) else { return };
    let load = under_load(&mut cluster, &[0, 1], |cluster, load| {
        cluster.members[2].node.process().pause();
        load.until_answered(2000);
        let stalled = || cluster.members[0].node.stat("peers_down") == 1;
        until("the node is found to be down", stalled);
        load.until_answered(500);
        cluster.members[2].node.process().resume();
        cluster.until_connected();
        load.until_answered(500);
    });
    assert_eq!(load.errors(), Vec::<String>::new());
    assert!(load.slowest() < Duration::from_millis(900), "an answer took {:?}", load.slowest());
}

#[test]
fn another_rack_stands_in_at_dc_one() {
    let Some(mut cluster) = Cluster::start(Shape::redis(1, 2, 2).line("timeout: 1000")) else { return };
    // Everything goes through one node of the first rack; its neighbour there dies.
    let load = under_load(&mut cluster, &[0], |cluster, load| {
        cluster.members[1].node.kill();
        load.until_answered(2000);
    });
    assert_eq!(load.errors(), Vec::<String>::new());
    assert!(cluster.members[0].node.stat("reads_failed_over") < 50, "the plan avoids who is down");
    cluster.members[1].node.restart();
    cluster.until_connected();
    assert_eq!(cluster.client(0).ask("SET k v"), Value::ok());
}

#[test]
fn without_a_quorum_there_are_errors_that_say_so_and_at_once() {
    let Some(mut cluster) = Cluster::start(quorum(Shape::redis(1, 3, 1))) else { return };
    let load = under_load(&mut cluster, &[0], |cluster, load| {
        cluster.members[1].node.kill();
        cluster.members[2].node.kill();
        load.until_errors(500);
        cluster.members[2].node.restart();
        cluster.members[1].node.restart();
        cluster.until_connected();
        load.until_answered(500);
    });
    let errors = load.errors();
    let says_so =
        |error: &&String| error.contains(": ERR Peer: Peer Node ") && error.contains("DC_QUORUM needs 2 of 3");
    assert!(
        errors.len() >= 500 && errors.iter().all(|error| says_so(&error)),
        "{:?}",
        errors.iter().find(|e| !says_so(e))
    );
    assert!(load.slowest() < Duration::from_secs(1), "an answer took {:?}", load.slowest());
}

#[test]
fn another_datacenter_that_is_away_is_not_waited_for() {
    let Some(mut cluster) = Cluster::start(quorum(Shape::redis(2, 1, 1))) else { return };
    let load = under_load(&mut cluster, &[0], |cluster, load| {
        for _ in 0..2 {
            cluster.members[1].node.kill();
            load.until_answered(1000);
            cluster.members[1].node.restart();
            cluster.until_connected();
            load.until_answered(500);
        }
    });
    assert_eq!(load.errors(), Vec::<String>::new());
    assert!(load.slowest() < Duration::from_millis(900), "an answer took {:?}", load.slowest());
    assert!(cluster.members[0].node.stat("remote_peer_dropped_requests") > 0);
    // What is written now arrives there.
    assert_eq!(cluster.client(0).ask("SET after v"), Value::ok());
    let mut far = cluster.datastores().remove(1);
    until("the write has arrived", || far.ask("GET after") == Value::bulk("v"));
}
