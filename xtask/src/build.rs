//! `cargo xtask build`: the daemon, as it is shipped.

use std::path::PathBuf;

use anyhow::Result;

use crate::shell;

#[derive(clap::Args)]
pub struct Args {
    /// A profile of Cargo.toml: `dev`, `quick`, `release`
    #[arg(long, default_value = "release")]
    profile: String,
}

pub fn run(args: Args) -> Result<()> {
    println!("{}", daemon(&args.profile)?.display());
    Ok(())
}

/// Builds the daemon and says where it is.
pub fn daemon(profile: &str) -> Result<PathBuf> {
    let mut command = shell::cargo();
    command.args(["build", "--package", "dynomite-user", "--bin", "dynomite", "--profile", profile]);
    shell::run(&mut command)?;
    Ok(shell::target().join(if profile == "dev" { "debug" } else { profile }).join("dynomite"))
}
