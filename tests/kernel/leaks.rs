//! Flows taken in and let go many times leave memory where it was.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use dynomite_tests::{random, until};
use dynomite_user::kernel::{FastPath, Flow, Hand, Language, Progress, Refused, Released, Routing, Settings};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Kilobytes of a line of a file in /proc.
pub fn kilobytes(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

fn ours() -> u64 {
    kilobytes("/proc/self/status", "VmRSS")
}

pub fn kernels() -> u64 {
    kilobytes("/proc/meminfo", "SUnreclaim") + kilobytes("/proc/meminfo", "Percpu")
}

/// Something that listens as a datastore does, and a fast path aimed at it.
struct Rig {
    store: TcpListener,
    listener: TcpListener,
    hand: Hand,
    path: Arc<FastPath>,
}

/// A client and the node's end of its connection.
struct Pair {
    client: TcpStream,
    node: TcpStream,
    read: u64,
}

impl Rig {
    fn new(flows_max: u32) -> Option<Rig> {
        let cgroup = crate::cgroup()?;
        let store = TcpListener::bind("127.0.0.1:0").unwrap();
        let datastore = store.local_addr().unwrap();
        let settings = Settings { datastore, language: Language::Resp, flows_max, cgroup };
        let path = FastPath::start(&settings).unwrap_or_else(|error| panic!("{error}"));
        path.publish(Some(&Routing { keys: None, commands: Vec::new() }));
        let hand = path.join(Box::new(|| {}));
        Some(Rig { store, listener: TcpListener::bind("127.0.0.1:0").unwrap(), hand, path })
    }

    fn pair(&self) -> Pair {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let (node, _) = self.listener.accept().unwrap();
        node.set_nonblocking(true).unwrap();
        Pair { client, node, read: 0 }
    }

    /// Takes the client in. The flow, and the datastore's end of it.
    fn adopt(&self, pair: &Pair) -> (TcpStream, Flow) {
        let mut flow = loop {
            match self.hand.dial(&[]) {
                Ok(flow) => break flow,
                Err(Refused::Full) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        let (store, _) = self.store.accept().unwrap();
        until("the flow is ready", || matches!(flow.on_event(), Progress::Ready));
        flow.adopt(pair.node.as_fd(), pair.read).unwrap();
        flow.answered();
        (store, flow)
    }
}

impl Pair {
    /// Something comes through the program, and the client is let go.
    fn release(&mut self, flow: &mut Flow) {
        self.client.write_all(b"hello").unwrap();
        let mut space = [0; 16];
        until("it is passed", || self.node.read(&mut space).is_ok_and(|count| count == 5));
        flow.on_read(5);
        self.read += 5;
        assert_eq!(flow.release(self.node.as_fd()), Released::Yes);
    }
}

/// Runs `cycle` a while, and then until the time is over: no more memory is used at the end.
fn check(rig: &Rig, warm_up: u32, at_least: u32, at_most: u32, mut cycle: impl FnMut()) {
    (0..warm_up).for_each(|_| cycle());
    until("the first slots have rested", || rig.path.flows_now() == 0);
    let (ours_before, kernels_before) = (ours(), kernels());
    let end = Instant::now() + random::seconds(3);
    let mut cycles = 0;
    while cycles < at_least || cycles < at_most && Instant::now() < end {
        cycle();
        cycles += 1;
    }
    // Sockets and flows are freed a grace period later.
    until("the kernel's memory is back", || kernels() < kernels_before + 16 * 1024);
    let grown = ours().saturating_sub(ours_before);
    println!("{cycles} cycles: ours {grown} kB more, the kernel's {} before, {} after", kernels_before, kernels());
    assert!(grown < 4 * 1024, "{grown} kB more after {cycles} cycles");
}

#[test]
fn memory_is_where_it_was_after_many_adoptions() {
    let _alone = crate::alone();
    let Some(rig) = Rig::new(256) else { return };
    check(&rig, 500, 500, 100_000, || {
        let mut pair = rig.pair();
        let (_store, mut flow) = rig.adopt(&pair);
        pair.release(&mut flow);
    });
    // Both ends close one right after the other: on a busy machine they may meet, and that is an ordinary end.
    let resting = resting(&rig.store);
    assert!(resting < 10, "{resting} connections to the datastore did not leave their ports at once");
}

/// Connections to this listener that are over and still hold their ports (TIME_WAIT).
fn resting(store: &TcpListener) -> usize {
    let port = format!(":{:04X} ", store.local_addr().unwrap().port());
    let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
    connections.lines().filter(|line| line.contains(&port) && line.split_whitespace().nth(3) == Some("06")).count()
}

/// A thousand flows at one time, a hundred times if there is time for that.
#[test]
fn memory_is_where_it_was_after_a_thousand_at_once() {
    const FLOWS: usize = 1000;
    let _alone = crate::alone();
    let (_, files_max) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, files_max, files_max).unwrap();
    if files_max < 5 * FLOWS as u64 {
        return dynomite_tests::need::skip("a thousand flows need five thousand descriptors");
    }
    let Some(rig) = Rig::new(FLOWS as u32) else { return };
    let mut pairs: Vec<Pair> = (0..FLOWS).map(|_| rig.pair()).collect();
    check(&rig, 2, 2, 100, || {
        let mut flows: Vec<_> = pairs.iter().map(|pair| rig.adopt(pair)).collect();
        assert_eq!(rig.path.flows_now(), FLOWS as u32);
        for (pair, (_, flow)) in pairs.iter_mut().zip(&mut flows) {
            pair.release(flow);
        }
    });
}
