//! Flows taken in and let go many times leave memory where it was.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use dynomite_tests::{random, until};
use dynomite_user::kernel::{FastPath, Language, Progress, Refused, Released, Routing, Settings};

/// Kilobytes of a line of a file in /proc.
fn kilobytes(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

fn unreclaimable() -> u64 {
    kilobytes("/proc/meminfo", "SUnreclaim") + kilobytes("/proc/meminfo", "Percpu")
}

#[test]
fn memory_is_where_it_was_after_many_adoptions() {
    let _alone = crate::alone();
    let Some(cgroup) = crate::cgroup() else { return };
    let store = TcpListener::bind("127.0.0.1:0").unwrap();
    let datastore = store.local_addr().unwrap();
    let settings = Settings { datastore, language: Language::Resp, flows_max: 256, cgroup };
    let path = FastPath::start(&settings).unwrap_or_else(|error| panic!("{error}"));
    path.publish(Some(&Routing { keys: None, commands: Vec::new() }));
    let hand = path.join(Box::new(|| {}));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let cycle = || {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut node, _) = listener.accept().unwrap();
        node.set_nonblocking(true).unwrap();
        let mut flow = loop {
            match hand.dial(&[]) {
                Ok(flow) => break flow,
                Err(Refused::Full) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        let _store = store.accept().unwrap();
        until("the flow is ready", || matches!(flow.on_event(), Progress::Ready));
        flow.adopt(node.as_fd(), 0).unwrap();
        flow.answered();
        client.write_all(b"hello").unwrap();
        let mut space = [0; 16];
        until("it is passed", || node.read(&mut space).is_ok_and(|count| count == 5));
        flow.on_read(5);
        assert_eq!(flow.release(node.as_fd()), Released::Yes);
    };
    (0..500).for_each(|_| cycle());
    let (ours, kernels) = (kilobytes("/proc/self/status", "VmRSS"), unreclaimable());
    let cycles = random::seconds(5).as_secs() * 1000;
    (0..cycles).for_each(|_| cycle());
    // Sockets and flows are freed a grace period later.
    until("the kernel's memory is back", || unreclaimable() < kernels + 16 * 1024);
    let grown = kilobytes("/proc/self/status", "VmRSS").saturating_sub(ours);
    assert!(grown < 4 * 1024, "{grown} kB more after {cycles} cycles");
}
