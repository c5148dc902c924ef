//! `cargo xtask bench`: builds the daemon and the load generator as they are shipped, and measures.

use anyhow::Result;

use crate::{build, setup, shell};

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// See `cargo xtask bench --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub fn run(args: Args) -> Result<()> {
    setup::bring(setup::BENCH)?;
    let daemon = build::daemon("release")?;
    let mut command = shell::cargo();
    command.args(["run", "--quiet", "--profile", "quick", "--package", "dynomite-tests", "--bin", "bench", "--"]);
    shell::run(command.env("DYNOMITE_BINARY", daemon).args(args.rest))
}
