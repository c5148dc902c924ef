//! `cargo xtask build`: the daemon, as it is shipped.

use anyhow::Result;

use crate::shell;

#[derive(clap::Args)]
pub struct Args {
    /// Build quickly instead of well
    #[arg(long)]
    debug: bool,
}

pub fn run(args: Args) -> Result<()> {
    let binary = daemon(args.debug)?;
    println!("{}", binary.display());
    Ok(())
}

/// Builds the daemon and says where it is.
pub fn daemon(debug: bool) -> Result<std::path::PathBuf> {
    let mut command = shell::cargo();
    command.args(["build", "--package", "dynomite-user", "--bin", "dynomite"]);
    if !debug {
        command.arg("--release");
    }
    shell::run(&mut command)?;
    Ok(shell::target().join(if debug { "debug" } else { "release" }).join("dynomite"))
}
