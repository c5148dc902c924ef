//! Programs that run beside us and end with us.
//! Each gets a process group of its own, so that Ctrl-C reaches only us and we end them in order: who was started last goes first.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::shell;

/// How long a program has to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct Children {
    running: Vec<(String, Child)>,
}

/// Why `Children::wait` came back.
pub enum Woken {
    /// Somebody wants us to stop.
    Asked,
    Ended(String, ExitStatus),
}

impl Children {
    /// To be made before any thread or program is started: takes the signals that end us out of the ordinary way.
    pub fn new() -> Result<Children> {
        signals().thread_block().context("cannot block signals")?;
        Ok(Children::default())
    }

    pub fn start(&mut self, name: &str, command: &Command) -> Result<()> {
        self.spawn(name, tied(command))
    }

    /// The same, without what it would print.
    pub fn start_quietly(&mut self, name: &str, command: &Command) -> Result<()> {
        let mut command = tied(command);
        command.stdout(Stdio::null());
        self.spawn(name, command)
    }

    fn spawn(&mut self, name: &str, mut command: Command) -> Result<()> {
        // What is blocked here would be blocked there. A signal that comes just now ends us, and the kernel ends the others.
        signals().thread_unblock()?;
        let child = command.process_group(0).spawn();
        signals().thread_block()?;
        self.running.push((name.to_string(), child.with_context(|| format!("cannot start {name}"))?));
        Ok(())
    }

    /// Waits until a signal asks us to stop or one of the programs ended.
    pub fn wait(&mut self) -> Result<Woken> {
        loop {
            if let Some(ended) = self.ended()? {
                return Ok(ended);
            }
            match signals().wait().context("cannot wait for signals")? {
                Signal::SIGCHLD => {}
                _ => return Ok(Woken::Asked),
            }
        }
    }

    /// Has one of the programs ended?
    pub fn ended(&mut self) -> Result<Option<Woken>> {
        for index in 0..self.running.len() {
            if let Some(status) = self.running[index].1.try_wait()? {
                let (name, _) = self.running.remove(index);
                return Ok(Some(Woken::Ended(name, status)));
            }
        }
        Ok(None)
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for (name, mut child) in self.running.drain(..).rev() {
            let pid = Pid::from_raw(child.id().cast_signed());
            let _ = kill(pid, Signal::SIGTERM);
            let deadline = Instant::now() + GRACE;
            while matches!(child.try_wait(), Ok(None)) {
                if Instant::now() > deadline {
                    eprintln!("{name} does not end; killed");
                    let _ = child.kill();
                    let _ = child.wait();
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD].into_iter().collect()
}

/// The same program, ended by the kernel when we are killed without a chance to do it ourselves.
pub fn tied(command: &Command) -> Command {
    let program = command.get_program();
    let mut tied = match shell::find("setpriv") {
        Some(setpriv) => shell::program(&setpriv.to_string_lossy()),
        None => shell::program(&program.to_string_lossy()),
    };
    if tied.get_program() != program {
        tied.args(["--pdeathsig", "TERM", "--"]).arg(program);
    }
    tied.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => tied.env(name, value),
            None => tied.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        tied.current_dir(directory);
    }
    tied
}
