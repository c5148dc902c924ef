//! `cargo xtask bench`: this node against what it replaces, in one run, taking turns, before the same Redis.

mod cluster;
mod kernel;
mod load;
mod machine;
mod node;
mod places;
mod report;
mod shortcut;
mod suite;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    about = "Measures this node against the datastore itself, nutcracker and C Dynomite"
)]
pub struct Args {
    /// What is measured
    #[arg(value_enum, default_value = "node")]
    what: What,
    /// A C Dynomite to compare with
    #[arg(long, value_name = "PATH")]
    c_dynomite: Option<PathBuf>,
    /// The daemon to measure; built when not given
    #[arg(long, value_name = "PATH")]
    dynomite: Option<PathBuf>,
    /// A few loads, briefly: for a first impression while developing
    #[arg(long)]
    quick: bool,
    /// Only measurements whose name contains one of these words, e.g. `--only "GET 100 B" --only memory`
    #[arg(long)]
    only: Vec<String>,
    /// Rounds; each measures everybody once
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds each measurement lasts
    #[arg(long)]
    seconds: Option<f64>,
    /// A further line of our node's configuration, e.g. `--conf "workers: 1"`
    #[arg(long)]
    conf: Vec<String>,
    /// Do not measure the others, only direct and this node
    #[arg(long)]
    alone: bool,
    /// Write the report into this file too, in place of what it said about the same; README quotes tests/bench/results.md
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    /// One node, in user space, before one Redis
    Node,
    /// Nodes that must ask others: forwarding, three racks
    Cluster,
    /// The fast path in the kernel against the same node without it
    Kernel,
    /// Connections to the datastore past TCP against the same over TCP
    Shortcut,
}

fn main() -> Result<()> {
    let args = Args::parse();
    match args.what {
        What::Node => node::run(&args),
        What::Cluster => cluster::run(&args),
        What::Kernel => kernel::run(&args),
        What::Shortcut => shortcut::run(&args),
    }
}
