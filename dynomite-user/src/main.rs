//! Arguments to exit code.

mod arguments;

use std::ffi::OsString;
use std::io::{self, BufRead as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, process};

use anyhow::Context as _;
use arguments::{Arguments, CONF_FILE, Command, Task, USAGE};
use dynomite_user::config::{self, Invalid, Loaded, Lookup, Problem, located};
use dynomite_user::daemon::{self, RunOptions, members};
use dynomite_user::kernel::{guard, probe};
use dynomite_user::log::Log;
use dynomite_user::ring::describe::describe;
use dynomite_user::ring::hash::HashKind;
use dynomite_user::stats::render;
use dynomite_user::{VERSION, always};
use nix::sys::stat::Mode;

/// Says a line on standard error. Who does not listen any more (`| head`) is told nothing, and that is no fault.
macro_rules! tell {
    ($($part:tt)*) => { let _ = writeln!(io::stderr(), $($part)*); };
}

fn main() -> ExitCode {
    let arguments = match arguments::parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(refused) => {
            tell!("{}", refused.message);
            if refused.usage {
                tell!("\n{USAGE}");
            }
            return ExitCode::FAILURE;
        }
    };
    match &arguments.task {
        Task::Print { help, describe_stats } => {
            tell!("This is dynomite-{VERSION}\n");
            if *help {
                tell!("{USAGE}");
            }
            if *describe_stats {
                tell!("{}", render::describe());
            }
            ExitCode::SUCCESS
        }
        Task::TestConf => test_conf(&arguments),
        Task::Other(Command::Hash { keys }) => or_say(hash(&arguments, keys)),
        Task::Other(Command::KernelCheck) => or_say(kernel_check(&arguments)),
        Task::Run => or_say(run(&arguments)),
    }
}

impl Arguments {
    fn conf_file(&self) -> PathBuf {
        self.conf_file.clone().unwrap_or_else(|| CONF_FILE.into())
    }

    /// What the command line says over, or in place of, the file.
    fn apply(&self, loaded: &mut Loaded) {
        let config = &mut loaded.config;
        if let Some(port) = self.stats_port {
            config.stats_listen.port = port;
        }
        if let Some(host) = &self.stats_addr {
            config.stats_listen.host.clone_from(host);
        }
        if let (Some(bytes), false) = (self.mbuf_size, loaded.given.contains_key("mbuf_size")) {
            config.mbuf_size = bytes as usize;
        }
        if let (Some(count), false) = (self.max_msgs, loaded.given.contains_key("max_msgs")) {
            config.max_msgs = count as usize;
        }
        config.workers = self.workers.unwrap_or(config.workers);
        config.enable_gossip |= self.gossip;
        if self.gossip {
            loaded.warnings.push(Problem::of_file(format!("option -g has no effect yet: {}", config::NO_GOSSIP)));
        }
    }
}

fn or_say(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        let is_unheard = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        if error.downcast_ref().is_some_and(is_unheard) {
            return ExitCode::SUCCESS;
        }
        tell!("dynomite: {error:#}");
        ExitCode::FAILURE
    })
}

/// What the file and the command line say, and everything for which the node would not start.
fn examine(arguments: &Arguments, path: &Path, seeds: bool) -> (Loaded, Vec<Problem>) {
    let lookup = Lookup { datastore: !arguments.embedded_datastore, seeds };
    let (loaded, mut problems) = config::examine(path, |loaded| arguments.apply(loaded), lookup);
    if problems.is_empty() {
        problems.extend(members::topology(&loaded.config).err().unwrap_or_default());
    }
    (loaded, problems)
}

/// Says everything that is wrong, then the verdict.
fn test_conf(arguments: &Arguments) -> ExitCode {
    let path = &arguments.conf_file();
    let say = |problems: &[Problem], kind: &str| {
        for problem in problems {
            tell!("dynomite: {kind}{}", located(path, problem));
        }
    };
    let (loaded, problems) = examine(arguments, path, true);
    say(&loaded.warnings, "warning: ");
    say(&problems, "");
    let verdict = if problems.is_empty() { "valid" } else { "invalid" };
    tell!("dynomite: configuration file '{}' syntax is {verdict}", path.display());
    if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Where keys live. Without a configuration: the tokens that a default one would give them.
fn hash(arguments: &Arguments, keys: &[OsString]) -> anyhow::Result<ExitCode> {
    let path = arguments.conf_file();
    let given = arguments.conf_file.is_some() || path.exists();
    let topology = match given {
        true => {
            let config = config::load(&path).map_err(anyhow::Error::from)?.config;
            let topology = members::topology(&config).map_err(|problems| Invalid { path, problems })?;
            Some((topology, config.hash, config.hash_tag))
        }
        false => None,
    };
    let show = |key: &[u8]| match &topology {
        Some((topology, hash, tag)) => describe(topology, *hash, *tag, [key]),
        None => {
            format!("{}  {} = {}\n", key.escape_ascii(), HashKind::default().name(), HashKind::default().token(key).0)
        }
    };
    let mut out = io::stdout().lock();
    for key in keys {
        out.write_all(show(key.as_bytes()).as_bytes())?;
    }
    if keys.is_empty() {
        for key in io::stdin().lock().split(b'\n') {
            out.write_all(show(&key?).as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What this kernel does for us: proven on connections and packets of our own, with timings; or why not.
fn kernel_check(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let path = arguments.conf_file();
    raise_descriptor_limit();
    let config = match arguments.conf_file.is_some() || path.exists() {
        true => Some(config::load(&path).map_err(anyhow::Error::from)?.config),
        false => None,
    };
    let mut out = io::stdout().lock();
    let kernel = nix::sys::utsname::uname()?;
    writeln!(out, "kernel {}", kernel.release().to_string_lossy())?;
    let proven = match &config {
        Some(config) => daemon::kernel::check(config),
        None => probe::check(None, None),
    };
    if let Ok(proven) = &proven {
        for (program, steps) in proven.path.walked() {
            writeln!(out, "program {program}: {steps} steps of the verifier")?;
        }
    }
    let guard = probe::guard();
    if let Ok((guard, _)) = &guard {
        writeln!(out, "program guard: {} steps of the verifier", guard.walked)?;
    }
    let guard = guard.as_ref().map(|(_, trials)| trials);
    let mut all_can = true;
    for (part, result) in probe::parts(&proven).into_iter().chain([("guard", guard)]) {
        match result {
            Ok(trials) => {
                writeln!(out, "{part}: yes")?;
                for trial in trials {
                    writeln!(out, "  {:>9.1} ms  {}", trial.took.as_secs_f64() * 1e3, trial.name)?;
                }
            }
            Err(off) => {
                writeln!(out, "{part}: no, {off}")?;
                all_can = false;
            }
        }
    }
    // Only looked at: attaching may reset a network card.
    for name in config.iter().flat_map(|config| &config.kernel.interfaces) {
        match guard::interface(name) {
            Ok(_) => writeln!(out, "interface {name}: there")?,
            Err(error) => {
                writeln!(out, "interface {name}: no, {error}")?;
                all_can = false;
            }
        }
    }
    Ok(if all_can { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let log = Log::install(arguments.verbosity, arguments.output.as_deref()).with_context(|| {
        let file = arguments.output.as_deref().unwrap_or(Path::new("stderr"));
        format!("opening log file '{}' failed", file.display())
    })?;
    let path = arguments.conf_file();
    // Seeds are looked up while the node runs.
    let (loaded, problems) = examine(arguments, &path, false);
    if !problems.is_empty() {
        return Ok(cannot_start(arguments, &Invalid { path, problems }));
    }
    if arguments.daemonize {
        daemonize().context("cannot become a daemon")?;
    }
    let _pid_file = match &arguments.pid_file {
        Some(path) => {
            Some(PidFile::create(path).with_context(|| format!("opening pid file '{}' failed", path.display()))?)
        }
        None => None,
    };
    always!("dynomite-{VERSION} started on pid {}", process::id());
    for warning in &loaded.warnings {
        tracing::warn!("{}", located(&path, warning));
    }
    raise_descriptor_limit();
    let options = RunOptions {
        log,
        embedded_datastore: arguments.embedded_datastore,
        admin_operation: arguments.admin_operation,
    };
    let result = daemon::run(loaded.config, options);
    if let Err(error) = &result {
        tracing::error!("{error:#}");
    }
    // Said in the log: standard error may be that log, or the null device.
    Ok(result.unwrap_or(ExitCode::FAILURE))
}

fn cannot_start(arguments: &Arguments, invalid: &Invalid) -> ExitCode {
    for problem in &invalid.problems {
        let text = located(&invalid.path, problem);
        tracing::error!("conf: {text}");
        if arguments.output.is_some() {
            tell!("dynomite: {text}");
        }
    }
    tell!("dynomite: configuration file '{}' syntax is invalid", invalid.path.display());
    ExitCode::FAILURE
}

/// Into the background, without a terminal, in the same directory. Nothing else runs yet: no thread is lost.
fn daemonize() -> io::Result<()> {
    fork::daemon(true, false)?;
    nix::sys::stat::umask(Mode::empty());
    Ok(())
}

/// Our process id in a file, without a line end; gone when we are.
struct PidFile {
    path: PathBuf,
    text: String,
}

impl PidFile {
    fn create(path: &Path) -> io::Result<PidFile> {
        let text = process::id().to_string();
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?;
        file.write_all(text.as_bytes())?;
        // The working directory may change; the file stays where it is.
        Ok(PidFile { path: fs::canonicalize(path)?, text })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody else's by now: not ours to remove.
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Every client is a descriptor, and shells start programs with a limit of a thousand.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard));
    match raised {
        Ok(limit) => tracing::debug!("{limit} descriptors"),
        Err(error) => tracing::warn!("the limit of descriptors stays: {error}"),
    }
}
