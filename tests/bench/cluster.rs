//! `bench cluster`: what it costs that others must be asked. Our nodes, and C nodes in the same places before the same datastores.

use anyhow::{Result, bail};
use dynomite_tests::cluster::{self, Shape};
use dynomite_tests::node::serves;
use dynomite_tests::{Client, Datastore, Kind, Node, until};
use dynomite_user::ring::hash::HashKind;

use crate::load::{Load, Verb};
use crate::places::{Place, absolute};
use crate::suite::{self, Task};
use crate::{Args, machine, node};

pub fn run(args: &Args) -> Result<()> {
    machine::raise_open_files()?;
    forwarded(args)?;
    replicated(args)
}

/// One rack of two nodes: the first is asked for what the second owns.
fn forwarded(args: &Args) -> Result<()> {
    let shape = Shape::redis(1, 1, 2);
    let owned_by_the_second = |key: &str| HashKind::Murmur.token(key.as_bytes()).0 > u32::MAX / 2;
    let Some(datastores) = datastores(2) else { bail!("redis-server is needed") };
    let load =
        |connections, pipeline| Load { keys: owned_by_the_second, ..Load::new(Verb::Get, 100, connections, pipeline) };
    load(1, 1).fill(datastores[1].address())?;
    let mut places = vec![Place::direct(&datastores[1])];
    let mut rest = Vec::new();
    start(args, &shape, &datastores, &mut places, &mut rest)?;
    let slow = suite::pace(load(1, 1), &places[0])?;
    let mut tasks =
        vec![Task::throughput(load(50, 16)), Task::throughput(load(50, 1)), Task::latency(load(1, 1), slow)];
    if args.quick {
        tasks.truncate(2);
    }
    suite::run(args, "Forwarded by one node to the datastore of another", &places, tasks)
}

/// Three racks of one node: everybody has everything.
fn replicated(args: &Args) -> Result<()> {
    let shape = Shape::redis(1, 3, 1);
    for level in ["dc_one", "dc_quorum"] {
        let Some(datastores) = datastores(3) else { bail!("redis-server is needed") };
        for datastore in &datastores {
            Load::new(Verb::Get, 100, 1, 1).fill(datastore.address())?;
        }
        let mut places = vec![Place::direct(&datastores[0])];
        let mut rest = Vec::new();
        let shape =
            shape.clone().line(&format!("read_consistency: {level}")).line(&format!("write_consistency: {level}"));
        start(args, &shape, &datastores, &mut places, &mut rest)?;
        let load = |verb, pipeline| Load::new(verb, 100, 50, pipeline);
        let tasks = vec![
            Task::throughput(load(Verb::Set, 16)),
            Task::throughput(load(Verb::Get, 16)),
            Task::throughput(load(Verb::Set, 1)),
            Task::throughput(load(Verb::Get, 1)),
        ];
        suite::run(args, &format!("Three racks, {level}"), &places, tasks)?;
    }
    Ok(())
}

fn datastores(count: usize) -> Option<Vec<Datastore>> {
    (0..count).map(|_| Datastore::redis()).collect()
}

/// Starts a cluster of ours, and one of C nodes, before the same datastores. Of each the first node is measured; the others are kept in `rest`.
fn start(
    args: &Args,
    shape: &Shape,
    datastores: &[Datastore],
    places: &mut Vec<Place>,
    rest: &mut Vec<Node>,
) -> Result<()> {
    for (name, program) in [("this node", args.dynomite.as_ref()), ("C Dynomite", args.c_dynomite.as_ref())] {
        let of_c = name == "C Dynomite";
        if of_c && program.is_none() {
            continue;
        }
        let hosts = cluster::places(shape);
        let mut nodes: Vec<Node> = Vec::new();
        for (place, datastore) in hosts.iter().zip(datastores) {
            let mut settings = cluster::settings(shape, place, &hosts, Some(datastore));
            if let Some(program) = program {
                settings.program = absolute(program);
            }
            settings.of_c = of_c;
            if !of_c {
                settings = node::configured(args, settings);
            }
            nodes.push(Node::start_unchecked(settings));
        }
        for node in &nodes {
            until("a node serves", || serves(node.address(), Kind::Redis));
        }
        // Connected is who can write to every owner, at any level.
        until("the nodes have found each other", || {
            (0..20).all(|number| {
                let asked = Client::try_connect(nodes[0].address()).and_then(|mut client| {
                    client.try_send(&dynomite_tests::resp::words(&format!("SET warm:{number} up")))?;
                    client.try_reply()
                });
                asked.is_ok_and(|reply| !reply.is_error())
            })
        });
        let first = nodes.remove(0);
        rest.extend(nodes);
        places.push(Place::of(name, first));
    }
    Ok(())
}
