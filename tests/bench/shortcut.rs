//! `bench shortcut`: shared datastore connections past TCP against the same ones over TCP; nothing is routed.

use anyhow::{Result, bail};
use dynomite_tests::Datastore;

use crate::load::{Load, Verb};
use crate::places::Place;
use crate::suite::{self, Task};
use crate::{Args, machine, node};

pub fn run(args: &Args) -> Result<()> {
    machine::raise_open_files()?;
    let Some(datastore) = Datastore::redis() else { bail!("redis-server is needed") };
    // One node of a host has the kernel for a datastore.
    let with = |kernel: &str| node::ours(args, &datastore).line(&format!("kernel: {{{kernel}}}"));
    let places = [
        Place::direct(&datastore),
        Place::node("over TCP", with("mode: off")),
        Place::node("over TCP, again", with("mode: off")),
        Place::node("shortcut", with("mode: required, flows_max: 0, shortcut: true")),
    ];
    for value_bytes in [100, 16 << 10] {
        Load::new(Verb::Get, value_bytes, 1, 1).fill(datastore.address())?;
    }
    suite::run(args, "The shortcut between daemon and datastore", &places, tasks())
}

fn tasks() -> Vec<Task> {
    let mut tasks = Vec::new();
    for verb in [Verb::Get, Verb::Set] {
        let load = |value_bytes, connections, pipeline| Load::new(verb, value_bytes, connections, pipeline);
        tasks.push(Task::throughput(load(100, 1, 1)));
        tasks.push(Task::throughput(load(100, 50, 1)));
        tasks.push(Task::throughput(load(100, 50, 16)));
        tasks.push(Task::throughput(load(16 << 10, 1, 1)));
        tasks.push(Task::throughput(load(16 << 10, 50, 1)));
        tasks.push(Task::throughput(load(16 << 10, 50, 16)));
        tasks.push(Task::cpu(load(100, 50, 1), 15_000.0));
        tasks.push(Task::cpu(load(16 << 10, 50, 1), 5_000.0));
    }
    tasks
}
