//! `bench`: one node before one Redis: throughput, latency, processor time per request, memory per idle client.

use anyhow::{Result, bail};
use dynomite_tests::need::find;
use dynomite_tests::{Client, Datastore, Settings};

use crate::load::{Load, Verb};
use crate::places::{Place, absolute};
use crate::report::Unit;
use crate::suite::{self, Task};
use crate::{Args, machine};

const IDLE_CLIENTS: usize = 10_000;

pub fn run(args: &Args) -> Result<()> {
    let open_files = machine::raise_open_files()?;
    let Some(datastore) = Datastore::redis() else { bail!("redis-server is needed") };
    let mut places = vec![Place::direct(&datastore), Place::node("this node", ours(args, &datastore))];
    if !args.alone {
        others(args, &datastore, &mut places)?;
    }
    for value_bytes in [100, 16 << 10] {
        Load::new(Verb::Get, value_bytes, 1, 1).fill(datastore.address())?;
    }
    let mut tasks = tasks(args.quick, &places[0])?;
    if open_files > IDLE_CLIENTS as u64 + 100 {
        tasks.push(
            Task::new(format!("{IDLE_CLIENTS} idle clients, memory each"), Unit::Bytes, |place, _| memory(place))
                .once(),
        );
    }
    suite::run(args, "One node, in user space", &places, tasks)
}

/// Our node as the arguments want it.
pub fn ours(args: &Args, datastore: &Datastore) -> Settings {
    let mut settings = Settings::before(datastore);
    if let Some(program) = &args.dynomite {
        settings.program = absolute(program);
    }
    configured(args, settings)
}

/// With the lines of the arguments, and what a user would have where they say nothing.
pub fn configured(args: &Args, settings: Settings) -> Settings {
    let says_workers = args.conf.iter().any(|line| line.starts_with("workers:"));
    let settings = if says_workers { settings } else { settings.line("workers: 0") };
    args.conf.iter().fold(settings, |settings, line| settings.line(line))
}

/// What this node replaces, as far as it is there.
pub fn others(args: &Args, datastore: &Datastore, places: &mut Vec<Place>) -> Result<()> {
    match find("nutcracker") {
        Some(program) => places.push(Place::nutcracker(&program, datastore)?),
        None => eprintln!("no nutcracker on PATH: not compared"),
    }
    match &args.c_dynomite {
        Some(program) => places.push(Place::node("C Dynomite", Settings::before(datastore).of_c(absolute(program)))),
        None => eprintln!("no --c-dynomite: not compared"),
    }
    Ok(())
}

fn tasks(quick: bool, direct: &Place) -> Result<Vec<Task>> {
    let mut tasks = Vec::new();
    for verb in [Verb::Get, Verb::Set] {
        for value_bytes in [100, 16 << 10] {
            for (connections, pipeline) in [(1, 1), (8, 1), (50, 1), (1, 16), (8, 16), (50, 16)] {
                let telling = connections == 50 && verb == Verb::Get && (value_bytes == 100 || pipeline == 1);
                if !quick || telling {
                    tasks.push(Task::throughput(Load::new(verb, value_bytes, connections, pipeline)));
                }
            }
        }
    }
    let (one, many) = (Load::new(Verb::Get, 100, 1, 1), Load::new(Verb::Get, 100, 50, 1));
    let (slow, fast) = (suite::pace(one, direct)?, suite::pace(many, direct)?);
    tasks.push(Task::latency(one, slow));
    tasks.push(Task::cpu(many, fast));
    tasks.push(Task::own_cpu(many, fast));
    Ok(tasks)
}

/// What one more idle client costs the process, in bytes.
fn memory(place: &Place) -> Result<Option<f64>> {
    let Some(before) = place.rss() else { return Ok(None) };
    let mut clients = Vec::with_capacity(IDLE_CLIENTS);
    for _ in 0..IDLE_CLIENTS {
        let mut client = Client::try_connect(place.address)?;
        // Idle, but not unknown: each has asked something once.
        client.try_send(b"*2\r\n$3\r\nGET\r\n$19\r\nkey:00000100:000001\r\n")?;
        client.try_reply()?;
        clients.push(client);
    }
    let after = place.rss().unwrap_or(before);
    Ok(Some(after.saturating_sub(before) as f64 / IDLE_CLIENTS as f64))
}
