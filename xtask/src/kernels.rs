//! `cargo xtask kernels`: boots older kernels in qemu and runs the kernel tests in each. Kernels are the distribution's
//! packages, from the mirrors this machine is configured with; one that cannot be had is a failed row.

mod image;
mod packages;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{children, setup, shell};

#[derive(clap::Args, Default)]
pub struct Args {
    /// Only these kernels (`5.10`, `6.1`, `6.12`)
    kernels: Vec<String>,
    /// Only tests whose names contain this, or another one of these
    #[arg(long)]
    filter: Vec<String>,
    /// Seconds that one test may take
    #[arg(long, default_value_t = 240)]
    seconds: u64,
    /// Seconds that all tests together may take on one kernel
    #[arg(long, default_value_t = 1200)]
    all_seconds: u64,
}

/// A kernel and the package that brings it.
pub struct Kernel {
    pub name: &'static str,
    /// Packages are called so, and then `-cloud-amd64`; the newest is taken.
    pub package: &'static str,
    /// The distribution's release that has it, if that is not this machine's.
    pub release: Option<&'static str>,
}

pub const KERNELS: &[Kernel] = &[
    Kernel { name: "5.10", package: "linux-image-5.10.0-", release: Some("bullseye") },
    Kernel { name: "6.1", package: "linux-image-6.1.0-", release: None },
    Kernel { name: "6.12", package: "linux-image-6.12.", release: None },
];

/// Optimized, with assertions: emulation is slow enough.
const PROFILE: &str = "sim";

/// What the image is made of and run with.
const NEEDS: &[setup::Need] = &[
    setup::Need { program: "qemu-system-x86_64", package: "qemu-system-x86" },
    setup::Need { program: "busybox", package: "busybox-static" },
    setup::Need { program: "redis-server", package: "redis-server" },
    setup::Need { program: "memcached", package: "memcached" },
    setup::Need { program: "strip", package: "binutils" },
    setup::Need { program: "ip", package: "iproute2" },
    setup::Need { program: "dpkg", package: "dpkg" },
    setup::Need { program: "xz", package: "xz-utils" },
];

pub fn run(args: Args) -> Result<()> {
    if !setup::bring(NEEDS)? {
        bail!("something is missing (see above)");
    }
    let (daemon, tests) = programs()?;
    let names = test_names(&tests, &args.filter)?;
    let mut rows = Vec::new();
    for kernel in KERNELS {
        if !args.kernels.is_empty() && !args.kernels.iter().any(|name| name == kernel.name) {
            continue;
        }
        let start = Instant::now();
        let result = one(kernel, &daemon, &tests, &names, &args);
        rows.push((kernel.name, start.elapsed(), result));
    }
    let good = print(&names, &rows);
    if rows.is_empty() {
        bail!("no kernel of that name");
    }
    if !good {
        bail!("not every test holds on every kernel");
    }
    Ok(())
}

/// What became of each test, and the kernel's own name.
struct Outcome {
    release: String,
    verdicts: BTreeMap<String, String>,
    /// What the tests said that did not hold at once.
    complaints: String,
}

fn one(kernel: &Kernel, daemon: &Path, tests: &Path, names: &[String], args: &Args) -> Result<Outcome> {
    let place = shell::target().join("kernels").join(kernel.name);
    let files = packages::unpack(kernel, &place)?;
    let initrd = place.join("initrd");
    image::write(&initrd, &files, daemon, tests, names, args.seconds)?;
    let log = place.join("console.log");
    boot(&files.vmlinuz, &initrd, &log, args.all_seconds)?;
    let console = String::from_utf8_lossy(&fs::read(&log)?).replace('\r', "");
    let mut outcome = Outcome { release: String::new(), verdicts: BTreeMap::new(), complaints: String::new() };
    let mut said = String::new();
    for line in console.lines() {
        if let Some((_, release)) = line.split_once("KERNEL ") {
            outcome.release = release.trim().to_owned();
        } else if let Some((name, verdict)) = line.strip_prefix("RESULT ").and_then(|line| line.trim().split_once(' '))
        {
            if !verdict.starts_with("ok (") {
                outcome.complaints += &format!("\n{name} on {}: {verdict}\n{said}", kernel.name);
            }
            outcome.verdicts.insert(name.to_owned(), verdict.to_owned());
            said.clear();
        } else {
            said += line;
            said.push('\n');
        }
    }
    if outcome.release.is_empty() {
        bail!("it did not boot: {}", log.display());
    }
    Ok(outcome)
}

/// Boots and waits for the end. What the machine says goes to `log`.
fn boot(vmlinuz: &Path, initrd: &Path, log: &Path, seconds: u64) -> Result<()> {
    let mut command = Command::new("timeout");
    command.arg(seconds.to_string()).arg("qemu-system-x86_64");
    // Emulated, not virtualized: it runs anywhere, and nested virtualization is missing or broken in too many places. Both
    // processors in one thread: emulated beside each other, one now and then runs into an instruction that the other is
    // just replacing ("Oops: int3" where a static key changes).
    command.args(["-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", "2048", "-no-reboot"]);
    command.args(["-display", "none", "-monitor", "none", "-serial"]).arg(format!("file:{}", log.display()));
    command.arg("-kernel").arg(vmlinuz).arg("-initrd").arg(initrd);
    command.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off", "-nic", "none"]);
    eprintln!("$ qemu-system-x86_64 … {}, see {}", vmlinuz.display(), log.display());
    // Ended before its time, it has said less; the tests that are missing then tell.
    children::tied(&command).stdin(Stdio::null()).status().context("qemu")?;
    Ok(())
}

/// The daemon and the kernel tests, built here, run there. In one go: built apart, what both need would be built twice.
fn programs() -> Result<(PathBuf, PathBuf)> {
    let mut command = shell::cargo();
    command.args(["build", "--package", "dynomite-user", "--bin", "dynomite", "--package", "dynomite-tests"]);
    command.args(["--test", "kernel", "--profile", PROFILE, "--message-format", "json"]);
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("the daemon or the kernel tests do not build");
    }
    let lines = String::from_utf8(output.stdout)?;
    // One word of cargo's messages is all that is wanted of them.
    let built = |name: &str| -> Result<PathBuf> {
        let mut of_it = lines.lines().filter(|line| line.contains(&format!("\"name\":\"{name}\"")));
        let executable = of_it.find_map(|line| line.split_once("\"executable\":\""));
        let path = executable.and_then(|(_, rest)| rest.split('"').next());
        Ok(path.with_context(|| format!("cargo built no {name}"))?.into())
    };
    Ok((built("dynomite")?, built("kernel")?))
}

fn test_names(tests: &Path, filters: &[String]) -> Result<Vec<String>> {
    let output = Command::new(tests).args(["--list", "--format", "terse"]).output()?;
    let names = String::from_utf8(output.stdout)?;
    let names: Vec<_> = names.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect();
    let is_wanted = |name: &String| filters.is_empty() || filters.iter().any(|filter| name.contains(filter));
    let mut names: Vec<_> = names.into_iter().filter(is_wanted).collect();
    // What cannot be undone comes last.
    names.sort_by_key(|name| name.contains("locked_down"));
    if names.is_empty() {
        bail!("no test of that name");
    }
    Ok(names)
}

/// The table kernel × test. Is all of it good?
fn print(names: &[String], rows: &[(&str, Duration, Result<Outcome>)]) -> bool {
    let mut out = std::io::stdout().lock();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let mut good = true;
    for (kernel, time, result) in rows {
        match result {
            Err(error) => {
                good = false;
                let _ = writeln!(out, "\n{kernel}  FAILED: {error:#}");
            }
            Ok(outcome) => {
                let _ = write!(out, "{}", outcome.complaints);
                let _ = writeln!(out, "\n{kernel}  ({}, {:.0} s)", outcome.release, time.as_secs_f64());
                for name in names {
                    let verdict = outcome.verdicts.get(name).map_or("FAILED: never ended", String::as_str);
                    good &= verdict.starts_with("ok");
                    let _ = writeln!(out, "  {name:width$}  {verdict}");
                }
            }
        }
    }
    good
}
