//! Whole clusters in one thread on virtual time: nodes, datastores, clients and everything that can go wrong between
//! them, from one seed. `cargo xtask sim` runs any number of seeds and prints those that fail; with `--story` it tells
//! what happened.

mod faults;
mod network;
mod node;
mod oracle;
mod store;
mod workload;
mod world;

use std::cell::Cell;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use world::{Failure, Options, Summary};

#[derive(Parser)]
#[command(name = "cargo xtask sim", about = "Plays simulated clusters, one a seed")]
struct Args {
    /// How many seeds to play
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first one
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Tell what happened in a run that fails; it is played again for it
    #[arg(long)]
    story: bool,
    /// Threads; default: one for each core
    #[arg(long)]
    threads: Option<usize>,
    /// Plant a bug in every node: seeds that pass do not notice it
    #[arg(long)]
    canary: Option<node::Canary>,
}

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

fn main() -> ExitCode {
    let args = Args::parse();
    std::panic::set_hook(Box::new(|panic| eprintln!("seed {} fails: {panic}", SEED.get())));
    let started = Instant::now();
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (total, failures) = play(args.from, args.seeds, threads, args.canary);
    println!(
        "{} seeds from {}: {} answers, {} errors, {} writes acknowledged, {} reads held to a version, {} replicas to what was \
         acknowledged, {} events, {:.1} s",
        args.seeds,
        args.from,
        total.answers,
        total.errors,
        total.acknowledged,
        total.held,
        total.compared,
        total.events,
        started.elapsed().as_secs_f64(),
    );
    for (seed, failure) in &failures {
        println!("seed {seed} fails at {:.6} s: {}", failure.at.0 as f64 / 1e9, failure.what);
    }
    let told = failures.first().filter(|_| args.story).map(|(seed, _)| *seed);
    let told = told.and_then(|seed| world::run(seed, Options { canary: args.canary, story: true }).err());
    told.into_iter().flat_map(|failure| failure.story).for_each(|line| println!("{line}"));
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// So many failures tell enough.
const FAILURES_MAX: usize = 10;

/// Plays seeds on several threads.
fn play(from: u64, seeds: u64, threads: usize, canary: Option<node::Canary>) -> (Summary, Vec<(u64, Failure)>) {
    let next = AtomicU64::new(from);
    let outcome: Mutex<(Summary, Vec<(u64, Failure)>)> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds || outcome.lock().unwrap().1.len() >= FAILURES_MAX {
                        return;
                    }
                    let result = guarded(seed, Options { canary, story: false });
                    let mut outcome = outcome.lock().unwrap();
                    match result {
                        Ok(run) => {
                            let (total, _) = &mut *outcome;
                            total.answers += run.answers;
                            total.errors += run.errors;
                            total.acknowledged += run.acknowledged;
                            total.held += run.held;
                            total.compared += run.compared;
                            total.events += run.events;
                        }
                        Err(failure) => outcome.1.push((seed, failure)),
                    }
                }
            });
        }
    });
    let (total, mut failures) = outcome.into_inner().unwrap();
    failures.sort_by_key(|(seed, _)| *seed);
    (total, failures)
}

/// A panic is a failure like any other. Where it ends the process, it has said its seed.
fn guarded(seed: u64, options: Options) -> Result<Summary, Failure> {
    SEED.set(seed);
    std::panic::catch_unwind(|| world::run(seed, options)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        Err(Failure { what: format!("panic: {}", text.unwrap_or_default()), at: Default::default(), story: Vec::new() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Canary;

    /// A few; `cargo xtask sim` plays any number.
    #[test]
    fn clusters_keep_their_promises() {
        let (total, failures) = play(0, 10, 2, None);
        let failures: Vec<_> =
            failures.iter().map(|(seed, failure)| format!("seed {seed}: {}", failure.what)).collect();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        assert!(total.held > 0 && total.acknowledged > 0 && total.errors > 0, "the runs try nothing: {total:?}");
    }

    #[test]
    fn a_seed_is_a_story() {
        let tell = || {
            let run = world::run(3, Options::default()).unwrap();
            (run.events, run.answers, run.errors, run.acknowledged)
        };
        assert_eq!(tell(), tell());
    }

    /// A bug that is planted is found, within a minute's worth of seeds. `first` is one that finds it now.
    fn check_canary(canary: Canary, first: u64) {
        let found =
            (first..first + 300).find(|seed| guarded(*seed, Options { canary: Some(canary), story: false }).is_err());
        println!("{canary:?} is found by seed {found:?}");
        assert!(found.is_some(), "{canary:?} was not found");
    }

    #[test]
    fn a_vote_that_counts_twice_is_found() {
        check_canary(Canary::DoubleVote, 3);
    }

    #[test]
    fn a_reply_that_is_matched_wrongly_is_found() {
        check_canary(Canary::LateReply, 3);
    }
}
