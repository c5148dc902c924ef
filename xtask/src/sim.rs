//! `cargo xtask sim`: simulated clusters on virtual time, as many seeds as asked for.

use anyhow::Result;

use crate::shell;

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// See `cargo xtask sim --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub fn run(args: Args) -> Result<()> {
    let mut command = shell::cargo();
    command.args(["run", "--quiet", "--profile", "sim", "--package", "dynomite-tests", "--bin", "simulation", "--"]);
    shell::run(command.args(args.rest))
}
