//! How fast bytes become requests and replies. `cargo bench -p dynomite-user --bench decode`
//! The bar: a pipeline of 16 GETs at 1 GB/s or better.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dynomite_user::protocol::memcache;
use dynomite_user::protocol::reply::Scanned;
use dynomite_user::protocol::request::{Decoded, Limits};
use dynomite_user::protocol::resp::decode::Decoder;
use dynomite_user::protocol::resp::scan::ReplyScanner;

/// Decodes all of `inbox` and says how many requests there were and how many bytes their keys have.
fn drain(decoder: &mut Decoder, mut inbox: &[u8], limits: &Limits) -> (u32, usize) {
    let (mut requests, mut key_bytes) = (0, 0);
    while !inbox.is_empty() {
        let Decoded::Request { consumed, request } = decoder.decode(inbox, limits) else { panic!("a whole pipeline") };
        requests += 1;
        key_bytes += request.key.map_or(0, <[u8]>::len);
        inbox = &inbox[consumed..];
    }
    (requests, key_bytes)
}

fn pipeline(request: impl Fn(usize) -> String) -> Vec<u8> {
    (0..16).map(request).collect::<String>().into_bytes()
}

fn decode(criterion: &mut Criterion) {
    let get = pipeline(|at| format!("*2\r\n$3\r\nGET\r\n$16\r\nmemtier-{:08}\r\n", at * 7919));
    let uneven = pipeline(|at| {
        let key = "k".repeat(3 + at * 5 % 23);
        format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len())
    });
    let set = pipeline(|at| format!("*3\r\n$3\r\nSET\r\n$16\r\nmemtier-{at:08}\r\n$100\r\n{}\r\n", "v".repeat(100)));
    let mixed = pipeline(|at| match at % 4 {
        0 => format!("*2\r\n$3\r\nget\r\n$11\r\nkey:{at:07}\r\n"),
        1 => format!("*3\r\n$3\r\nset\r\n$11\r\nkey:{at:07}\r\n$5\r\nvalue\r\n"),
        2 => format!("*3\r\n$9\r\nsismember\r\n$11\r\nset:{at:07}\r\n$3\r\nabc\r\n"),
        _ => format!("*2\r\n$4\r\nINCR\r\n$11\r\nkey:{at:07}\r\n"),
    });
    let mget = pipeline(|at| format!("*4\r\n$4\r\nMGET\r\n$6\r\na:{at:04}\r\n$6\r\nb:{at:04}\r\n$6\r\nc:{at:04}\r\n"));
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("decode, 16 deep");
    for (name, input) in
        [("get", get), ("get uneven keys", uneven), ("set 100 bytes", set), ("mixed", mixed), ("mget of 3", mget)]
    {
        let mut decoder = Decoder::default();
        assert_eq!(drain(&mut decoder, &input, &limits).0, 16, "{name}");
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| drain(&mut decoder, black_box(&input), &limits));
        });
    }
}

/// Finds the ends of all replies in `inbox`.
fn ends(scanner: &mut ReplyScanner, mut inbox: &[u8]) -> u32 {
    let mut replies = 0;
    while !inbox.is_empty() {
        let Scanned::Reply { len, .. } = scanner.scan(inbox) else { panic!("whole replies") };
        replies += 1;
        inbox = &inbox[len..];
    }
    replies
}

fn scan(criterion: &mut Criterion) {
    let values = pipeline(|at| format!("$32\r\n{:032}\r\n", at * 7919));
    let mixed = pipeline(|at| match at % 4 {
        0 => "+OK\r\n".into(),
        1 => format!(":{at}\r\n"),
        2 => "$-1\r\n".into(),
        _ => format!("$100\r\n{}\r\n", "v".repeat(100)),
    });
    let arrays = pipeline(|at| format!("*4\r\n{}", format!("$5\r\n{at:05}\r\n").repeat(4)));
    let mut group = criterion.benchmark_group("scan 16 replies");
    for (name, input) in [("values of 32 bytes", values), ("mixed", mixed), ("arrays of 4", arrays)] {
        let mut scanner = ReplyScanner::default();
        assert_eq!(ends(&mut scanner, &input), 16, "{name}");
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| ends(&mut scanner, black_box(&input))));
    }
}

fn decode_memcache(criterion: &mut Criterion) {
    let get = pipeline(|at| format!("get memtier-{:08}\r\n", at * 7919));
    let gets = pipeline(|at| format!("get a:{at:04} b:{at:04} c:{at:04}\r\n"));
    let set = pipeline(|at| format!("set memtier-{at:08} 0 0 100\r\n{}\r\n", "v".repeat(100)));
    let meta = pipeline(|at| format!("mg memtier-{at:08} v k q O{at}\r\n"));
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("decode memcached, 16 deep");
    for (name, input) in [("get", get), ("get of 3", gets), ("set 100 bytes", set), ("mg", meta)] {
        let mut decoder = memcache::Decoder::default();
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let (mut inbox, mut key_bytes) = (black_box(&input[..]), 0);
                while !inbox.is_empty() {
                    let Decoded::Request { consumed, request } = decoder.decode(inbox, &limits) else {
                        panic!("a whole pipeline")
                    };
                    key_bytes += request.key.map_or(0, <[u8]>::len);
                    inbox = &inbox[consumed..];
                }
                key_bytes
            });
        });
    }
}

criterion_group!(benches, decode, scan, decode_memcache);
criterion_main!(benches);
