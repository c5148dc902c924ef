//! How long it takes to find a key's owners, and to change a ring of a thousand nodes.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use dynomite_common::token::Token;
use dynomite_user::ring::{HashKind, HashTag, Node, Topology, snitch};

fn node(n: u32, rack: u32, token: Token) -> Node {
    Node {
        name: format!("node-{n}"),
        host: format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255),
        port: 8101,
        datacenter: "dc1".to_owned(),
        rack: format!("rack{rack}"),
        tokens: vec![token],
        secured: false,
    }
}

/// Tokens at random places, the same in every run.
fn ring(nodes: u32, racks: u32) -> Topology {
    let token = |n: u32| HashKind::Murmur3.token(&n.to_be_bytes());
    let mut all: Vec<_> = (0..nodes).map(|n| node(n, n % racks, token(n))).collect();
    let own = all.remove(0);
    Topology::build(own, all).expect("a ring")
}

fn owner_search(criterion: &mut Criterion) {
    for (name, nodes, racks) in [("owner of 3", 3, 1), ("owner of 1000", 1000, 1), ("3 owners of 3000", 3000, 3)] {
        let topology = ring(nodes, racks);
        let mut token = 1_u32;
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                token = token.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                snitch::near(&topology, Token(token)).map(|id| id.0).sum::<u32>()
            });
        });
    }
}

fn change(criterion: &mut Criterion) {
    let topology = ring(1000, 1);
    criterion.bench_function("add to 1000", |bencher| {
        bencher.iter(|| topology.with_added(node(1_000_000, 0, Token(17))).expect("one more"));
    });
}

fn hashes(criterion: &mut Criterion) {
    let key: &[u8] = b"user:1000:name:0";
    for kind in [HashKind::Murmur, HashKind::Murmur3, HashKind::Crc32a, HashKind::Md5] {
        criterion.bench_function(&format!("{} of 16 bytes", kind.name()), |bencher| {
            bencher.iter(|| kind.token(black_box(key)));
        });
    }
    let tag = Some(HashTag { open: b'{', close: b'}' });
    criterion.bench_function("murmur of a tag", |bencher| {
        bencher.iter(|| HashKind::Murmur.token(HashTag::of(tag, black_box(b"user:{1000}:name"))));
    });
}

criterion_group!(benches, owner_search, change, hashes);
criterion_main!(benches);
