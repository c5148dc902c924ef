//! What is written through any node is found on every replica, and nowhere else.

use dynomite_tests::{Cluster, Random, Shape, Value, random, until};

/// Commands on a key of each kind that leave the same behind wherever they are executed in the same order.
fn write(random: &mut Random, key: usize) -> String {
    let field = random.below(5);
    let value = random.below(1000);
    match random.below(12) {
        0..=3 => format!("SET s{key} {value}"),
        4 => format!("APPEND s{key} {value}"),
        5 => format!("HSET h{key} f{field} {value}"),
        6 => format!("HSET h{key} f{field} {value} g{field} {value}"),
        7 => format!("RPUSH l{key} {value}"),
        8 => format!("SADD m{key} {value}"),
        9 => format!("ZADD z{key} {value} {field}"),
        10 => format!("DEL s{key}"),
        _ => format!("INCRBY n{key} {value}"),
    }
}

#[test]
fn two_datacenters_of_three_racks_agree_after_random_writes() {
    let Some(cluster) = Cluster::start(Shape::redis(2, 3, 1)) else { return };
    let seed = random::seed();
    let writers: Vec<_> = (0..cluster.members.len()).collect();
    std::thread::scope(|scope| {
        for &writer in &writers {
            let cluster = &cluster;
            scope.spawn(move || {
                let mut random = Random::from_seed(seed + writer as u64);
                let mut client = cluster.client(writer);
                for _ in 0..1000 {
                    // Keys of one writer: what two do at the same time may end differently on two replicas.
                    let key = 100 * writer + random.below(20);
                    let line = write(&mut random, key);
                    let reply = client.ask(&line);
                    assert!(!reply.is_error(), "{line}: {reply:?}");
                }
            });
        }
    });
    // A write at DC_ONE is answered by one replica; the others have it in a moment.
    let mut datastores = cluster.datastores();
    let mut compared = 0;
    for writer in writers {
        for key in 100 * writer..100 * writer + 20 {
            for (kind, read) in
                [("s", "GET"), ("n", "GET"), ("h", "HGETALL"), ("l", "LRANGE"), ("m", "SMEMBERS"), ("z", "ZRANGE")]
            {
                let key = format!("{kind}{key}");
                let line = match read {
                    "LRANGE" | "ZRANGE" => format!("{read} {key} 0 -1"),
                    read => format!("{read} {key}"),
                };
                let sorted = |value: Value| match (value, read) {
                    (Value::Array(mut elements), "SMEMBERS") => {
                        elements.sort_by_key(Value::text);
                        Value::Array(elements)
                    }
                    (value, _) => value,
                };
                until(&format!("replicas agree on {key}"), || {
                    let ask = |owner: usize| sorted(datastores[owner].ask(&line));
                    let replies: Vec<Value> = cluster.owners(&key).into_iter().map(ask).collect();
                    replies.iter().all(|reply| *reply == replies[0])
                });
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 6 * 20 * 6);
}
