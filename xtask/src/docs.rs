//! `cargo xtask docs`: writes anew what is generated from tables. Tests hold the files against the tables; this makes them agree.

use anyhow::Result;

use crate::shell;

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: Args) -> Result<()> {
    // Every generated file has a test that compares it, and writes it instead when asked to.
    let mut command = shell::cargo();
    shell::run(command.args(["test", "--quiet", "--package", "dynomite-user", "--lib"]).env("DYNOMITE_DOCS", "write"))
}
