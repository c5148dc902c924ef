//! What the kernel's programs say of rare things, into the daemon's log.
//! Owns: the map that they say it in. Knows nothing of: what they say.

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;
use std::thread;

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Level, Log, Metadata, Record};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::load::LoadError;

/// The name of the object's constant for the level up to which anything is said, and its values.
pub const LEVEL: &str = aya_log::LEVEL;
pub const SILENT: u8 = 0;
pub const LOUD: u8 = Level::Warn as u8;

/// Memory for what is not heard yet: a hundred lines.
pub const MAP: &str = "AYA_LOGS";
pub const BYTES: u32 = 16 * 1024;

/// Loads programs that speak; or, where the verifier does not like how they do it, the same programs without their words.
pub fn if_possible<T>(load: impl Fn(u8) -> Result<T, LoadError>) -> Result<T, LoadError> {
    match load(LOUD) {
        Err(LoadError::Refused { program, words }) => {
            let silent = load(SILENT)?;
            tracing::warn!("the kernel's program {program} will not say anything in this log: {words}");
            Ok(silent)
        }
        other => other,
    }
}

pub struct Words(EbpfLogger<ToTracing>);

impl Words {
    /// To be called when the programs are loaded.
    pub fn of(object: &mut Ebpf) -> Option<Words> {
        EbpfLogger::init_with_logger(object, ToTracing).ok().map(Words)
    }

    /// Passes them on, in a thread of its own, for as long as the process lives.
    pub fn follow(mut self) -> io::Result<()> {
        let mut poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&self.0.as_raw_fd()), Token(0), Interest::READABLE)?;
        let run = move || {
            let mut events = Events::with_capacity(1);
            loop {
                self.0.flush();
                if let Err(error) = poll.poll(&mut events, None)
                    && error.kind() != io::ErrorKind::Interrupted
                {
                    tracing::error!("the kernel's words are not heard any more: {error}");
                    return;
                }
            }
        };
        thread::Builder::new().name("words".into()).spawn(run).map(drop)
    }
}

struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = readable(&record.args().to_string());
        match record.level() {
            Level::Error => tracing::error!("kernel: {line}"),
            Level::Warn => tracing::warn!("kernel: {line}"),
            _ => tracing::info!("kernel: {line}"),
        }
    }

    fn flush(&self) {}
}

/// The programs know IPv4 addresses in six's clothes; people do not.
fn readable(line: &str) -> String {
    let word = |word: &str| match word.parse::<Ipv6Addr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => word.to_owned(),
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn addresses_are_shown_as_people_know_them() {
        let check = |line, expected| assert_eq!(readable(line), expected);
        check("guard: ::ffff:10.0.0.1 is no member", "guard: 10.0.0.1 is no member");
        check("guard: fd00::ffff:1 is no member", "guard: fd00::ffff:1 is no member");
        check("two  spaces: 7", "two  spaces: 7");
    }
}
