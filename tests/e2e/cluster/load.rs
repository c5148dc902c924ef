//! Clients that go on asking while a test's story is told, and notice every wrong answer.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dynomite_tests::{Client, Cluster, Value, until};

/// Clients that write and read keys of their own, each through one node, until they are stopped. A key's last value that
/// was acknowledged must be read; after an error also the one that may have been written.
#[derive(Default)]
pub struct Load {
    stop: AtomicBool,
    answered: AtomicU64,
    errors: Mutex<Vec<String>>,
    slowest: Mutex<Duration>,
}

impl Load {
    fn run(&self, number: usize, mut client: Client) {
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
    pub fn until_answered(&self, more: u64) {
        let before = self.answered.load(Ordering::Relaxed);
        until("requests are answered", || self.answered.load(Ordering::Relaxed) >= before + more);
    }

    pub fn errors(&self) -> Vec<String> {
        self.errors.lock().expect("nobody panics with it").clone()
    }

    #[track_caller]
    pub fn until_errors(&self, more: usize) {
        let before = self.errors().len();
        until("requests are refused", || self.errors().len() >= before + more);
    }

    pub fn slowest(&self) -> Duration {
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
pub fn under_load(cluster: &mut Cluster, nodes: &[usize], story: impl FnOnce(&mut Cluster, &Load)) -> Load {
    let load = Load::default();
    std::thread::scope(|scope| {
        let stop = Stop(&load);
        for (number, &node) in nodes.iter().cycle().take(2 * nodes.len()).enumerate() {
            let (load, client) = (&load, cluster.client(node));
            scope.spawn(move || load.run(number, client));
        }
        load.until_answered(500);
        story(cluster, &load);
        drop(stop);
    });
    load
}
