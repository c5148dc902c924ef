//! What signals ask for: another log level, another log file, an end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::always;
use crate::log::Log;

/// Caught from the moment it is made; what comes meanwhile is handled when somebody waits.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hang_up: Signal,
    terminal_in: Signal,
    terminal_out: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    /// Needs a tokio runtime around it. SIGPIPE is ignored since before `main`.
    pub fn install() -> io::Result<Signals> {
        let of = |number: i32| signal(SignalKind::from_raw(number));
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
            terminal_in: of(libc::SIGTTIN)?,
            terminal_out: of(libc::SIGTTOU)?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Handles signals until one of them asks for an end.
    pub async fn until_stop(&mut self, log: &Log) {
        loop {
            let (number, name, wish) = tokio::select! {
                _ = self.interrupt.recv() => (libc::SIGINT, "SIGINT", Wish::Stop),
                _ = self.terminate.recv() => (libc::SIGTERM, "SIGTERM", Wish::Stop),
                _ = self.quit.recv() => (libc::SIGQUIT, "SIGQUIT", Wish::Stop),
                _ = self.hang_up.recv() => (libc::SIGHUP, "SIGHUP", Wish::Reopen),
                _ = self.terminal_in.recv() => (libc::SIGTTIN, "SIGTTIN", Wish::LevelUp),
                _ = self.terminal_out.recv() => (libc::SIGTTOU, "SIGTTOU", Wish::LevelDown),
                _ = self.user1.recv() => (libc::SIGUSR1, "SIGUSR1", Wish::Nothing),
                _ = self.user2.recv() => (libc::SIGUSR2, "SIGUSR2", Wish::Nothing),
            };
            always!("signal {number} ({name}) received{}", wish.suffix());
            match wish {
                Wish::Stop => return,
                Wish::Nothing => {}
                Wish::LevelUp => drop(log.level_up()),
                Wish::LevelDown => drop(log.level_down()),
                Wish::Reopen => {
                    if let Err(error) = log.reopen() {
                        tracing::error!("reopening log file failed, the old one stays: {error}");
                    }
                }
            }
        }
    }
}

enum Wish {
    Stop,
    Nothing,
    LevelUp,
    LevelDown,
    Reopen,
}

impl Wish {
    fn suffix(&self) -> &'static str {
        match self {
            Wish::Stop => ", exiting",
            Wish::Nothing => "",
            Wish::LevelUp => ", up logging level",
            Wish::LevelDown => ", down logging level",
            Wish::Reopen => ", reopening log file",
        }
    }
}
