//! `cargo xtask lint`: format, clippy, and the source rules.

use anyhow::Result;

use crate::{shell, tidy};

#[derive(clap::Args, Default)]
pub struct Args {
    /// Mend what can be mended instead of only telling
    #[arg(long)]
    fix: bool,
}

pub fn run(args: Args) -> Result<()> {
    let mut format = shell::cargo();
    format.args(["fmt", "--all"]);
    let mut clippy = shell::cargo();
    clippy.args(["clippy", "--workspace", "--all-targets"]);
    if args.fix {
        clippy.args(["--fix", "--allow-dirty", "--allow-staged"]);
    } else {
        format.arg("--check");
    }
    shell::run(&mut format)?;
    shell::run(clippy.args(["--", "-D", "warnings"]))?;
    tidy::run(tidy::Args {})
}
