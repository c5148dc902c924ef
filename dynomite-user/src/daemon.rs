//! Builds the parts, starts them, drains them.
//! Owns: the order of start and stop, and the control thread: stats port, signals, clockwork. It is the process's first
//! thread; workers are the others.

mod guard;
pub mod kernel;
pub mod members;
mod room;
mod signals;
mod workers;

use std::io;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use socket2::{Domain, Socket, Type};

use crate::config::{Config, HostPort};
use crate::control::{Control, NodeState};
use crate::log::Log;
use crate::moment::Clock;
use crate::net::admin;
use crate::net::endpoints::Admin;
use crate::net::presence::Board;
use crate::ring::topology::Topology;
use crate::stats::Registry;
use crate::stats::render::Identity;
use crate::{VERSION, always};
use kernel::Kernel;
use workers::Workers;

/// Histograms forget this often: old peaks must not hide new ones.
const HISTOGRAMS_RESET: Duration = Duration::from_secs(5 * 60);
/// Drawing up to finish takes as long as the slowest request may, and a little.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

/// What the command line says beside the configuration.
pub struct RunOptions {
    pub log: Log,
    /// Keep data in this process, and leave the configured datastore alone.
    pub embedded_datastore: bool,
    /// Zero: none. Otherwise no peer connections; 1: deletes of keys that this node owns, only.
    pub admin_operation: u32,
}

/// What every part is given of the others.
pub struct Parts {
    pub config: Config,
    pub options: RunOptions,
    pub topology: Topology,
    pub control: Arc<Control>,
    pub registry: Arc<Registry>,
    pub workers: usize,
    /// Away in tools that start workers alone.
    pub kernel: Option<Arc<Kernel>>,
}

/// Runs the node until it is told to stop. An error: it could not start, and nothing is left of the attempt.
pub fn run(config: Config, options: RunOptions) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let topology = members::topology(&config).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow!("no ring can be made of these nodes: {}", problems.join("; "))
    })?;
    let workers = match config.workers {
        // The datastore beside this node wants a core, too.
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1)),
        workers => workers,
    };
    // Gossip would make a joining node normal. Without it nobody would.
    let state = NodeState::Normal;
    let control = Control::new(config.read_consistency, config.write_consistency, config.read_repairs_enabled, state);
    control.set_cluster(members::view(&config));
    let control = Arc::new(control);
    let shared = workers * config.datastore_connections.max(1);
    let registry = Arc::new(Registry::new(workers));
    let stats = registry.kernel();
    let kernel =
        Kernel::start(&config, control.clone(), Arc::new(topology.clone()), options.embedded_datastore, shared, stats)?;
    let parts = Parts { topology, control, kernel: Some(kernel.clone()), registry, workers, config, options };
    // One thread: signals, the stats port and the clockwork are little work, and must not wait for each other.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("control thread")?;
    let inside = runtime.enter();
    let mut signals = signals::Signals::install().context("signal handlers")?;
    let stats_listener = listen(&parts.config.stats_listen, parts.config.backlog)
        .with_context(|| format!("stats: cannot listen at {}", parts.config.stats_listen))?;
    let board = Board::new(parts.registry.control());
    let mut running = Workers::start(&parts, Clock::start(), board.clone())?;
    kernel.spawn(&runtime);
    let admin = Arc::new(Admin {
        control: parts.control.clone(),
        registry: parts.registry.clone(),
        stats: parts.registry.control(),
        identity: identity(&parts.config),
        log: parts.options.log.clone(),
        started,
        sections: vec![board.clone(), kernel.clone()],
        board: Some(board.clone()),
        kernel: Some(kernel),
    });
    runtime.spawn(board.resolve());
    runtime.block_on(control_thread(stats_listener, admin, &mut signals, &parts));

    drop(running.socket_file.take());
    parts.control.drain();
    let patience = parts.config.timeout * u32::from(parts.control.timeout_factor()) + DRAIN_PATIENCE;
    let drained = runtime.block_on(async {
        tokio::select! {
            _ = tokio::task::spawn_blocking(move || running.drain(patience)) => true,
            // Asked twice: at once.
            () = signals.until_stop(&parts.options.log) => false,
        }
    });
    drop(inside);
    // A drain that was not waited for must not be waited for here.
    runtime.shutdown_background();
    always!("stopped");
    Ok(if drained { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Until a signal says stop.
async fn control_thread(
    stats_listener: tokio::net::TcpListener,
    admin: Arc<Admin>,
    signals: &mut signals::Signals,
    parts: &Parts,
) {
    let mut reset = tokio::time::interval(HISTOGRAMS_RESET);
    reset.tick().await; // the first one is at once
    let clockwork = async {
        loop {
            reset.tick().await;
            parts.registry.reset_histograms();
        }
    };
    let (control, config) = (parts.control.clone(), parts.config.clone());
    tokio::spawn(async move {
        let known = control.cluster();
        let better = members::with_addresses((*known).clone(), &config).await;
        // Whoever has replaced the view meanwhile knows more.
        if Arc::ptr_eq(&known, &control.cluster()) {
            control.set_cluster(better);
        }
    });
    tokio::select! {
        () = admin::serve(stats_listener, admin) => unreachable!("it serves for as long as it is polled"),
        () = clockwork => unreachable!("it never ends"),
        () = signals.until_stop(&parts.options.log) => {}
    }
}

fn identity(config: &Config) -> Identity {
    Identity {
        host_name: nix::unistd::gethostname()
            .map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned()),
        version: VERSION.to_owned(),
        rack: config.rack.clone(),
        datacenter: config.datacenter.clone(),
        pool: config.pool.clone(),
        datastore: config.datastore.name.clone(),
    }
}

fn listen(address: &HostPort, backlog: i32) -> io::Result<tokio::net::TcpListener> {
    let address = address.resolve()?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart must not wait for the connections of the last run to be forgotten.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(TcpListener::from(socket))
}
