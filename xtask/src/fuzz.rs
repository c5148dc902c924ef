//! `cargo xtask fuzz`: libFuzzer over the targets of tests/fuzz, with the stable compiler.
//! The instrumentation is LLVM's own and needs no unstable flag; address sanitizing would, and safe Rust gains little by it.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::shell;

#[derive(clap::Args)]
pub struct Args {
    /// Which targets; all of them when none is named
    targets: Vec<String>,
    /// How long each runs
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

const FLAGS: &[&str] = &[
    "--cfg fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
];

pub fn run(args: Args) -> Result<()> {
    let place = shell::root().join("tests/fuzz");
    let mut targets = args.targets;
    if targets.is_empty() {
        targets = fs::read_dir(place.join("seeds"))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        targets.sort_unstable();
    }
    // A target of its own: flags for instrumentation must not reach build scripts and macros.
    let host = host()?;
    let mut build = shell::cargo();
    build.args(["build", "--release", "--target", &host, "--manifest-path", "tests/fuzz/Cargo.toml", "--target-dir"]);
    build.arg(shell::target().join("fuzz")).env("RUSTFLAGS", FLAGS.join(" "));
    targets.iter().for_each(|target| _ = build.args(["--bin", target]));
    shell::run(&mut build)?;

    for target in &targets {
        let (corpus, seeds) = (place.join("corpus").join(target), place.join("seeds").join(target));
        let artifacts = place.join("artifacts").join(target);
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&artifacts)?;
        let program = shell::target().join("fuzz").join(&host).join("release").join(target);
        let mut command = shell::program(&program.to_string_lossy());
        command.arg(format!("-max_total_time={}", args.seconds)).args([
            "-timeout=10",
            "-print_final_stats=1",
            "-verbosity=0",
        ]);
        command.arg(format!("-artifact_prefix={}/", artifacts.display())).arg(corpus).arg(seeds);
        // What it prints is of interest when it found something.
        let output = command.output().with_context(|| format!("cannot start {target}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("{target} found something; the input lies in {}:\n{said}", artifacts.display());
        }
        let units = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")).unwrap_or("?");
        println!("{target}: {} inputs in {} s, nothing found", units.trim(), args.seconds);
    }
    Ok(())
}

fn host() -> Result<String> {
    let output = shell::program("rustc").arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match text.lines().find_map(|line| line.strip_prefix("host: ")) {
        Some(host) => Ok(host.to_string()),
        None => bail!("rustc does not say its host"),
    }
}
