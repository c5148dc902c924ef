//! What the tests and benches need from the machine, and bringing it.
//! Owns: the list of programs. As root they are installed; otherwise the one command to type is printed and what needs them is skipped aloud.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::shell;

/// A program and the package that brings it.
pub struct Need {
    pub program: &'static str,
    pub package: &'static str,
}

const fn need(program: &'static str, package: &'static str) -> Need {
    Need { program, package }
}

/// What the tests talk to.
pub const TESTS: &[Need] = &[
    need("redis-server", "redis-server"),
    need("redis-cli", "redis-tools"),
    need("memcached", "memcached"),
    need("python3", "python3"),
    need("ip", "iproute2"),
];

/// What the bench measures with and against.
pub const BENCH: &[Need] = &[need("redis-server", "redis-server"), need("nutcracker", "nutcracker")];

/// Installs the packages of what is missing. `Ok(false)` when something is missing still.
pub fn bring(needs: &[Need]) -> Result<bool> {
    let missing = || needs.iter().filter(|need| shell::find(need.program).is_none()).collect::<Vec<_>>();
    let packages: Vec<_> = missing().iter().map(|need| need.package).collect();
    if packages.is_empty() {
        return Ok(true);
    }
    install(&packages);
    Ok(missing().is_empty())
}

/// Installs packages where we may, else says what to type. Whether it helped, the caller sees.
pub fn install(packages: &[&str]) {
    if !nix::unistd::geteuid().is_root() || shell::find("apt-get").is_none() {
        eprintln!("missing: {}. To have all of it, type\n\n    sudo apt-get install {0}\n", packages.join(" "));
        return;
    }
    // Lists may be old or absent on a fresh machine; a failure here shows in the next command if it matters.
    let _ = shell::run(apt().args(["update"]));
    if let Err(error) = shell::run(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages)) {
        eprintln!("{error:#}");
    }
}

fn apt() -> std::process::Command {
    let mut command = shell::program("apt-get");
    // RUNLEVEL: packages of datastores would start a service of their own; the tests start what they need.
    command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").args(["-qq", "-o", "Dpkg::Use-Pty=0"]);
    command
}

/// Clients in other languages, installed below `target/tools`, seen by the tests there. A failure costs their tests only.
pub fn bring_clients() {
    if let Err(error) = python_client() {
        eprintln!("redis-py cannot be had, its tests will be skipped: {error:#}");
    }
    if let Err(error) = node_client() {
        eprintln!("ioredis cannot be had, its tests will be skipped: {error:#}");
    }
}

pub fn tools() -> PathBuf {
    shell::target().join("tools")
}

fn python_client() -> Result<()> {
    let place = tools().join("python");
    if place.join("redis").is_dir() {
        return Ok(());
    }
    if !shell::program("python3").args(["-m", "pip", "--version"]).output().is_ok_and(|output| output.status.success())
    {
        bring(&[need("pip3", "python3-pip")])?;
    }
    fs::create_dir_all(&place)?;
    let mut command = shell::program("python3");
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]);
    shell::run(command.arg("--target").arg(&place).args(["redis>=6", "pymemcache>=4"]))
}

fn node_client() -> Result<()> {
    let place = tools().join("node");
    if place.join("node_modules/ioredis").is_dir() {
        return Ok(());
    }
    if shell::find("npm").is_none() {
        anyhow::bail!("no npm on PATH");
    }
    fs::create_dir_all(&place)?;
    fs::write(place.join("package.json"), "{ \"private\": true }\n")?;
    let mut command = shell::program("npm");
    shell::run(command.arg("--prefix").arg(&place).args([
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "ioredis@>=5",
    ]))
}
