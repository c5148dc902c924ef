//! `cargo xtask test`: every test of the workspace.

use anyhow::Result;

use crate::shell;

#[derive(clap::Args)]
pub struct Args {
    /// Passed to the test binaries: a filter, `--nocapture`, …
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub fn run(args: Args) -> Result<()> {
    let mut command = shell::cargo();
    command.args(["test", "--workspace", "--no-fail-fast", "--"]).args(args.rest);
    shell::run(&mut command)
}
