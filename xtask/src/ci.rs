//! `cargo xtask ci`: everything a change must pass, in the order in which failures are cheapest. Goes on after a failure and says all of them.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{lint, sim, test};

#[derive(clap::Args)]
pub struct Args {}

type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] = &[
    ("lint", || lint::run(lint::Args::default())),
    ("test", || test::run(test::Args::default())),
    ("sim", sim::check),
];

pub fn run(_: Args) -> Result<()> {
    let mut done: Vec<(&str, Duration, Result<()>)> = Vec::new();
    for (name, step) in STEPS {
        println!("== {name}");
        let start = Instant::now();
        let result = step();
        if let Err(error) = &result {
            println!("== {name} failed: {error:#}");
        }
        done.push((name, start.elapsed(), result));
    }
    println!("\n== all");
    for (name, time, result) in &done {
        let verdict = result.as_ref().map_or_else(|error| format!("FAILED: {error:#}"), |()| "ok".to_string());
        println!("{name:>10} {:>6.1} s  {verdict}", time.as_secs_f64());
    }
    match done.iter().filter(|(_, _, result)| result.is_err()).count() {
        0 => Ok(()),
        failed => bail!("{failed} of {} steps failed", done.len()),
    }
}
