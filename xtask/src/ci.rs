//! `cargo xtask ci`: everything a change must pass, in the order in which failures are cheapest. Goes on after a failure and says all of them.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::ebpf::{self, Fresh};
use crate::{lint, shell};

#[derive(clap::Args)]
pub struct Args {}

/// What depends most on the kernel; all of it, emulated, takes half an hour. A test that takes longer than this hangs, and so
/// does a kernel that takes longer with all of them.
const KERNELS: &[&str] = &[
    "kernels",
    "--seconds=240",
    "--all-seconds=900",
    "--filter=guard::packets",
    "--filter=guard::strangers_do_not",
    "--filter=habits::what_the_kernel",
    "--filter=losses::a_killed",
    "--filter=order::",
    "--filter=overlap::an_overlap_in",
    "--filter=overlap::an_overlap_of",
    "--filter=overlap::an_overlap_when",
    "--filter=overlap::an_overlap_while_the_daemon",
    "--filter=overlap::forged",
    "--filter=owners::",
    "--filter=proof::",
    "--filter=shortcut_replies",
    "--filter=shortcut_switched",
    "--filter=uploads::",
];

pub fn run(_: Args) -> Result<()> {
    let mut done = Vec::new();
    let mut object = None;
    step(&mut done, "lint", || lint::run(lint::Args::default()).map(|()| String::new()));
    step(&mut done, "ebpf", || fresh_object(&mut object));
    // Commands of their own: they build with the object that was just built.
    for command in [&["test"][..], &["sim", "--seeds", "300"], KERNELS] {
        step(&mut done, command[0], || xtask(command, object.as_ref()).map(|()| String::new()));
    }
    println!("\n== all");
    for (name, time, result) in &done {
        let verdict = result.as_ref().map_or_else(|error| format!("FAILED: {error:#}"), |words| format!("ok{words}"));
        println!("{name:>10} {:>6.1} s  {verdict}", time.as_secs_f64());
    }
    match done.iter().filter(|(_, _, result)| result.is_err()).count() {
        0 => Ok(()),
        failed => bail!("{failed} of {} steps failed", done.len()),
    }
}

/// A step's name, how long it took, and what it has to say beside "ok".
type Done<'a> = (&'a str, Duration, Result<String>);

fn step<'a>(done: &mut Vec<Done<'a>>, name: &'a str, run: impl FnOnce() -> Result<String>) {
    println!("== {name}");
    let start = Instant::now();
    let result = run();
    if let Err(error) = &result {
        println!("== {name} failed: {error:#}");
    }
    done.push((name, start.elapsed(), result));
}

/// The kernel object is built from source. If that makes another one than is kept, the steps to come run with it.
fn fresh_object(object: &mut Option<PathBuf>) -> Result<String> {
    let fresh = ebpf::fresh()?;
    let words = format!(", {fresh}");
    if let Fresh::Other(place) = fresh {
        *object = Some(place);
    }
    Ok(words)
}

fn xtask(words: &[&str], object: Option<&PathBuf>) -> Result<()> {
    let mut command = Command::new(std::env::current_exe().context("a program knows its own path")?);
    command.args(words);
    if let Some(object) = object {
        command.env(ebpf::OTHER_OBJECT, object);
    }
    shell::run(&mut command)
}
