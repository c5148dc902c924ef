//! `cargo xtask …`: everything that is done with this repository, a file per command.
//! A new command is three lines here (`mod`, a variant of `Task`, an arm of `main`) and a file with `Args` and `run`.

mod bench;
mod build;
mod children;
mod ci;
mod cluster;
mod docs;
mod ebpf;
mod fuzz;
mod kernels;
mod lint;
mod pool;
mod run;
mod setup;
mod shell;
mod sim;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, runs, tests and measures Dynomite")]
enum Task {
    /// Start one node in front of one datastore, and say how to talk to it
    Run(run::Args),
    /// Start a whole cluster on loopback addresses, print its ring
    Cluster(cluster::Args),
    /// Build the daemon, optimized
    Build(build::Args),
    /// Build the kernel object from source and keep it in the repository
    Ebpf(ebpf::Args),
    /// Run the kernel tests on older kernels, in qemu
    Kernels(kernels::Args),
    /// Check format and lints: rustfmt, clippy, and the source rules of `tidy`
    Lint(lint::Args),
    /// Check the rules that no compiler checks: directions between modules, unsafe, file heads, words
    Tidy(tidy::Args),
    /// Run every test, bringing the datastores they need
    Test(test::Args),
    /// Play simulated clusters, one a seed
    Sim(sim::Args),
    /// Throw mutated bytes at the parsers
    Fuzz(fuzz::Args),
    /// Write anew what is generated from tables: conf/reference.yml and others
    Docs(docs::Args),
    /// Measure this node against what it replaces
    Bench(bench::Args),
    /// Everything a change must pass
    Ci(ci::Args),
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Run(args) => run::run(args),
        Task::Cluster(args) => cluster::run(args),
        Task::Build(args) => build::run(args),
        Task::Ebpf(args) => ebpf::run(args),
        Task::Kernels(args) => kernels::run(args),
        Task::Lint(args) => lint::run(args),
        Task::Tidy(args) => tidy::run(args),
        Task::Test(args) => test::run(args),
        Task::Sim(args) => sim::run(args),
        Task::Fuzz(args) => fuzz::run(args),
        Task::Docs(args) => docs::run(args),
        Task::Bench(args) => bench::run(args),
        Task::Ci(args) => ci::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
