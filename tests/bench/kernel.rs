//! `bench kernel`: the fast path against the same node without it, before the same Redis.

use anyhow::{Result, bail};
use dynomite_tests::{Datastore, until};

use crate::load::{Load, Verb};
use crate::places::Place;
use crate::suite::{self, Task};
use crate::{Args, machine, node};

pub fn run(args: &Args) -> Result<()> {
    machine::raise_open_files()?;
    let Some(datastore) = Datastore::redis() else { bail!("redis-server is needed") };
    let with = |mode: &str| node::ours(args, &datastore).line(&format!("kernel: {{mode: {mode}}}"));
    let mut places = vec![
        Place::direct(&datastore),
        Place::node("mode: off", with("off")),
        Place::node("fast path", with("required")),
    ];
    if !args.alone {
        node::others(args, &datastore, &mut places)?;
    }
    for value_bytes in [100, 16 << 10] {
        Load::new(Verb::Get, value_bytes, 1, 1).fill(datastore.address())?;
    }
    until("the fast path is on", || places[2].as_node().is_some_and(|node| !node.get("/kernel").contains("off")));
    let tasks = tasks(args.quick, &places[0])?;
    suite::run(args, "The fast path in the kernel", &places, tasks)
}

fn tasks(quick: bool, direct: &Place) -> Result<Vec<Task>> {
    let get = |value_bytes, connections, pipeline| Load::new(Verb::Get, value_bytes, connections, pipeline);
    let (one, eight, fifty) = (get(100, 1, 1), get(100, 8, 1), get(100, 50, 1));
    let (slow, brisk, fast) = (suite::pace(one, direct)?, suite::pace(eight, direct)?, suite::pace(fifty, direct)?);
    let mut tasks = vec![
        Task::latency(one, slow),
        Task::cpu(one, slow),
        Task::own_cpu(one, slow),
        Task::latency(eight, brisk),
        Task::cpu(eight, brisk),
        Task::cpu(fifty, fast),
        Task::throughput(get(100, 1, 1)),
        Task::throughput(get(100, 8, 1)),
        Task::throughput(get(100, 50, 1)),
        Task::steady_throughput(get(100, 50, 1)),
        Task::throughput(get(16 << 10, 8, 1)),
        Task::steady_throughput(get(16 << 10, 50, 1)),
        Task::throughput(get(100, 50, 16)),
    ];
    if quick {
        tasks.truncate(5);
    }
    Ok(tasks)
}
