//! A request on one key costs no allocation: a node runs in this process, and every allocation of the process is counted.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use dynomite_tests::resp::{request, words};
use dynomite_tests::{Datastore, Settings, node, until};
use dynomite_user::config;
use dynomite_user::daemon::{self, RunOptions};
use dynomite_user::log::Log;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const REQUESTS: usize = 16_000;

#[test]
fn requests_on_one_key_cost_no_allocation() {
    let Some(datastore) = Datastore::redis() else { return };
    let _profiler = dhat::Profiler::builder().testing().build();
    let settings = Settings::before(&datastore).line("workers: 1");
    let address = settings.host.port(dynomite_tests::address::CLIENT_PORT);
    let loaded = config::check(&settings.yaml()).expect("valid");
    std::thread::spawn(move || {
        let options = RunOptions { log: Log::detached(), embedded_datastore: false, admin_operation: 0 };
        daemon::run(loaded.config, options).expect("it starts");
    });
    until("the node serves", || node::serves(address, dynomite_tests::Kind::Redis));

    let before = dhat::HeapStats::get().total_blocks;
    let value = "v".repeat(100);
    assert!(dhat::HeapStats::get().total_blocks > before, "the counter counts");
    // A client that comes costs something: so the node's allocations are counted too.
    drop(TcpStream::connect(address).expect("connects"));
    until("the node allocated for a client", || dhat::HeapStats::get().total_blocks > before + 1);
    let set = request([b"SET", b"key".as_slice(), value.as_bytes()]);
    for (name, request, reply) in [
        ("SET", set, b"+OK\r\n".to_vec()),
        ("GET", words("GET key"), format!("$100\r\n{value}\r\n").into_bytes()),
        ("INCRBY", words("INCRBY number 0"), b":0\r\n".to_vec()),
        ("EXISTS", words("EXISTS key"), b":1\r\n".to_vec()),
    ] {
        for pipeline in [1, 16] {
            check(name, address, &request.repeat(pipeline), &reply.repeat(pipeline), REQUESTS / pipeline);
        }
    }
}

/// Sends the batch so many times, one after the other, and counts what is allocated meanwhile, after a warm-up.
fn check(name: &str, address: std::net::SocketAddr, batch: &[u8], expected: &[u8], times: usize) {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_nodelay(true).expect("nodelay");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    let mut replies = vec![0; expected.len()];
    let mut run = |times: usize| {
        for _ in 0..times {
            stream.write_all(batch).expect("written");
            stream.read_exact(&mut replies).expect("answered");
            assert!(replies == expected, "{name}: {}", replies.escape_ascii());
        }
    };
    run(200);
    let before = dhat::HeapStats::get().total_blocks;
    run(times);
    let blocks = dhat::HeapStats::get().total_blocks - before;
    // What is done now and then, by the clock and not by requests, may allocate a little.
    assert!(blocks < 50, "{name}, {} bytes at a time: {blocks} allocations for {times} batches", batch.len());
}
