//! One node before one Redis: throughput, latency, processor time per request, memory per idle client.

use std::time::Duration;

use anyhow::{Result, bail};
use dynomite_tests::need::{find, target};
use dynomite_tests::{Client, Datastore};

use crate::Args;
use crate::load::{Generator, Load, Verb};
use crate::machine;
use crate::places::{self, Place};
use crate::report::{Measured, Report, Unit};

const IDLE_CLIENTS: usize = 10_000;

/// What is measured, with the name it has in the report.
enum Task {
    Throughput(Load),
    /// At a fixed rate: latency, or processor time per request.
    Latency(Load, f64),
    Cpu(Load, f64),
    Memory,
}

impl Task {
    fn name(&self) -> String {
        let size = |bytes: usize| if bytes >= 1024 { format!("{} KB", bytes / 1024) } else { format!("{bytes} B") };
        let load = |load: &Load| {
            format!(
                "{} {}, {} connection{}",
                load.verb.name(),
                size(load.value_bytes),
                load.connections,
                if load.connections == 1 { "" } else { "s" }
            )
        };
        match self {
            Task::Throughput(what) if what.pipeline > 1 => format!("{} × {} deep", load(what), what.pipeline),
            Task::Throughput(what) => load(what),
            Task::Latency(what, rate) => format!("{} at {}k/s, mean latency", load(what), rate / 1000.0),
            Task::Cpu(what, rate) => format!("{} at {}k/s, CPU per request", load(what), rate / 1000.0),
            Task::Memory => format!("{IDLE_CLIENTS} idle clients, memory each"),
        }
    }

    fn unit(&self) -> Unit {
        match self {
            Task::Throughput(_) => Unit::PerSecond,
            Task::Latency(..) | Task::Cpu(..) => Unit::Microseconds,
            Task::Memory => Unit::Bytes,
        }
    }

    fn measure(&self, place: &Place, time: Duration) -> Result<Option<f64>> {
        Ok(match self {
            Task::Throughput(load) => {
                let mut generator = Generator::connect(*load, place.address)?;
                generator.run(time / 5)?;
                Some(generator.run(time)?.per_second())
            }
            Task::Latency(load, rate) => {
                let mut generator = Generator::connect(*load, place.address)?;
                generator.paced(*rate, time / 5)?;
                Some(generator.paced(*rate, time)?.1.mean().as_secs_f64() * 1e6)
            }
            Task::Cpu(load, rate) => {
                let mut generator = Generator::connect(*load, place.address)?;
                generator.paced(*rate, time / 5)?;
                // Processor time is counted in hundredths of a second: longer is better.
                Some(generator.paced(*rate, time * 2)?.0.cpu_per_request())
            }
            Task::Memory => memory(place)?,
        })
    }
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Set => "SET",
        }
    }
}

fn tasks(quick: bool) -> Vec<Task> {
    let mut tasks = Vec::new();
    for verb in [Verb::Get, Verb::Set] {
        for value_bytes in [100, 16 * 1024] {
            for (connections, pipeline) in [(1, 1), (8, 1), (50, 1), (1, 16), (8, 16), (50, 16)] {
                let told = connections == 50 && verb == Verb::Get && (value_bytes == 100 || pipeline == 1);
                if !quick || told {
                    tasks.push(Task::Throughput(Load { verb, value_bytes, connections, pipeline }));
                }
            }
        }
    }
    let get = Load { verb: Verb::Get, value_bytes: 100, connections: 1, pipeline: 1 };
    tasks.push(Task::Latency(get, 10_000.0));
    tasks.push(Task::Cpu(Load { connections: 50, ..get }, 20_000.0));
    tasks.push(Task::Memory);
    tasks
}

pub fn run(args: &Args) -> Result<()> {
    let limit = open_files_limit()?;
    let Some(datastore) = Datastore::redis() else { bail!("redis-server is needed") };
    let mut places = vec![Place::direct(&datastore)];
    places.push(Place::dynomite("this node", &places::ours(args.dynomite.clone()), &datastore, &args.conf));
    if !args.alone {
        match find("nutcracker") {
            Some(program) => places.push(Place::nutcracker(&program, &datastore)?),
            None => eprintln!("no nutcracker on PATH: not compared"),
        }
        match &args.c_dynomite {
            Some(program) => places.push(Place::dynomite("C Dynomite", program, &datastore, &[])),
            None => eprintln!("no --c-dynomite: not compared"),
        }
    }
    let rounds = args.rounds.unwrap_or(if args.quick { 3 } else { 5 });
    let time = Duration::from_secs_f64(args.seconds.unwrap_or(if args.quick { 0.5 } else { 1.0 }));
    let mut tasks = tasks(args.quick);
    tasks.retain(|task| args.only.is_empty() || args.only.iter().any(|word| task.name().contains(word.as_str())));
    tasks.retain(|task| !matches!(task, Task::Memory) || limit > IDLE_CLIENTS as u64 + 100);

    for value_bytes in [100, 16 * 1024] {
        Load { verb: Verb::Get, value_bytes, connections: 1, pipeline: 1 }.fill(datastore.address())?;
    }
    let busy = machine::busy()?;
    if busy > 0.1 {
        eprintln!("the machine is {:.0} % busy with something else: these numbers are worth little", busy * 100.0);
    }
    let mut report = Report::new(places.iter().map(|place| place.name).collect(), rounds, time, busy);
    for round in 0..rounds {
        for task in &tasks {
            // Memory does not vary from round to round, and grows only once.
            if matches!(task, Task::Memory) && round > 0 {
                continue;
            }
            let mut measured = Measured { name: task.name(), unit: task.unit(), values: vec![None; places.len()] };
            // Everybody is first as often as last.
            for turn in 0..places.len() {
                let place = (turn + round) % places.len();
                measured.values[place] = task.measure(&places[place], time).unwrap_or_else(|error| {
                    eprintln!("{}, {}: {error:#}", task.name(), places[place].name);
                    None
                });
            }
            eprintln!("round {}: {}", round + 1, report.line(&measured));
            report.add(measured);
        }
    }
    report.finish(&target().join("bench"), args.save.as_deref())
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

/// Raises the limit of open files as far as it goes, for us and for who we start.
fn open_files_limit() -> Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}
