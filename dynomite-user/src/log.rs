//! Log set-up: levels 0 to 11, lines as operators know them, an output that can be reopened.
//! Owns: the global subscriber. Whoever wants to say something uses `tracing`; what must be said at any level uses `always!`.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Zoned;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, reload};

pub const LEVEL_DEFAULT: u8 = 5;
pub const LEVEL_MAX: u8 = 11;
/// A longer line is cut: one event must not fill a disk.
const LINE_BYTES_MAX: usize = 4096;
/// What `always!` logs under.
#[doc(hidden)]
pub const ALWAYS: &str = "always";

/// Says something at every level, 0 included.
#[macro_export]
macro_rules! always {
    ($($message:tt)*) => { ::tracing::info!(target: "always", $($message)*) };
}

/// How much is said at a level.
fn filter(level: u8) -> Targets {
    let most = match level {
        0 => LevelFilter::OFF,
        1..=3 => LevelFilter::ERROR,
        4 => LevelFilter::WARN,
        5..=6 => LevelFilter::INFO,
        7..=8 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    Targets::new().with_default(most).with_target(ALWAYS, LevelFilter::INFO)
}

/// The running log: its level and its output. Clones are the same log.
#[derive(Clone)]
pub struct Log {
    level: Arc<AtomicU8>,
    filter: reload::Handle<Targets, Registry>,
    output: Arc<Output>,
}

impl Log {
    /// Makes the process's log. An error leaves nothing installed: the file cannot be opened, or there is a log already.
    pub fn install(level: u8, file: Option<&Path>) -> io::Result<Log> {
        let level = level.min(LEVEL_MAX);
        let output = Arc::new(Output::open(file)?);
        let (filter, handle) = reload::Layer::new(filter(level));
        let lines = tracing_subscriber::fmt::layer().event_format(Lines).with_writer(Shared(output.clone()));
        tracing_subscriber::registry().with(lines.with_filter(filter)).try_init().map_err(io::Error::other)?;
        Ok(Log { level: Arc::new(AtomicU8::new(level)), filter: handle, output })
    }

    /// A log that nobody hears: for tests of those who hold one.
    pub fn detached() -> Log {
        let filter = reload::Layer::<Targets, Registry>::new(filter(LEVEL_DEFAULT)).1;
        Log { level: Arc::new(AtomicU8::new(LEVEL_DEFAULT)), filter, output: Arc::new(Output::Stderr) }
    }

    pub fn level(&self) -> u8 {
        self.level.load(Ordering::Relaxed)
    }

    /// Returns the level that it came to: at most `LEVEL_MAX`.
    pub fn set_level(&self, level: u64) -> u8 {
        let level = level.min(u64::from(LEVEL_MAX)) as u8;
        self.level.store(level, Ordering::Relaxed);
        // Fails only when there is no subscriber any more, and then nothing is said anyway.
        let _ = self.filter.reload(filter(level));
        level
    }

    pub fn level_up(&self) -> u8 {
        self.set_level(u64::from(self.level()) + 1)
    }

    pub fn level_down(&self) -> u8 {
        self.set_level(u64::from(self.level()).saturating_sub(1))
    }

    /// Closes and opens the file again, after something else has moved it away. On an error the old one stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        self.output.reopen()
    }
}

/// Where lines go.
enum Output {
    Stderr,
    File { path: PathBuf, file: Mutex<File> },
}

impl Output {
    fn open(path: Option<&Path>) -> io::Result<Output> {
        Ok(match path {
            None => Output::Stderr,
            Some(path) => Output::File { path: path.to_owned(), file: Mutex::new(append_to(path)?) },
        })
    }

    fn reopen(&self) -> io::Result<()> {
        if let Output::File { path, file } = self {
            let again = append_to(path)?;
            *file.lock().unwrap_or_else(PoisonError::into_inner) = again;
        }
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    // Said here, because a daemon has no umask.
    OpenOptions::new().append(true).create(true).mode(0o644).open(path)
}

/// A whole line comes in one write, so lines of several threads do not mix.
struct OneLine<'a>(&'a Output);

impl Write for OneLine<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.0 {
            Output::Stderr => io::stderr().lock().write(line),
            Output::File { file, .. } => file.lock().unwrap_or_else(PoisonError::into_inner).write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Shared(Arc<Output>);

impl<'a> MakeWriter<'a> for Shared {
    type Writer = OneLine<'a>;

    fn make_writer(&'a self) -> OneLine<'a> {
        OneLine(&self.0)
    }
}

/// `[2026-01-31 12:00:00.123] net::worker:42 what was said`, in local time.
struct Lines;

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'a> FormatFields<'a> + 'static> FormatEvent<S, N> for Lines {
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let place = metadata.module_path().unwrap_or(metadata.target());
        let place = place.split_once("::").map_or(place, |(_, inner)| inner);
        let mut line = String::with_capacity(256);
        write!(line, "[{}] {place}:{} ", Zoned::now().strftime("%Y-%m-%d %H:%M:%S%.3f"), metadata.line().unwrap_or(0))?;
        event.record(&mut Words(&mut line));
        finish(&mut line);
        writer.write_str(&line)
    }
}

/// The message first as it is, other fields as `name=value`.
struct Words<'a>(&'a mut String);

impl Visit for Words<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

/// One line, whatever was in the message, and not too long.
fn finish(line: &mut String) {
    if line.contains(|c: char| c.is_control()) {
        *line =
            line.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect();
    }
    if line.len() >= LINE_BYTES_MAX {
        let end = (0..LINE_BYTES_MAX).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
        line.truncate(end);
    }
    line.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The global subscriber can be set once, so one test tells the whole story.
    #[test]
    fn a_log_is_filtered_formatted_and_reopened() {
        let directory = tempfile::tempdir().expect("directory");
        let (path, moved) = (directory.path().join("log"), directory.path().join("log.1"));
        let log = Log::install(LEVEL_DEFAULT, Some(&path)).expect("installed");
        let say = || {
            tracing::error!("an error");
            tracing::info!(count = 3, "news");
            tracing::debug!("detail");
            always!("always {}", 1);
        };
        let said = |path: &Path| {
            let text = fs::read_to_string(path).expect("log");
            let ours = text.lines().filter(|line| line.contains("] log::tests:"));
            ours.map(|line| line.split_once(' ').expect("time").1.splitn(3, ' ').nth(2).expect("words").to_owned())
                .collect::<Vec<_>>()
        };
        say();
        assert_eq!(said(&path), ["an error", "news count=3", "always 1"]);
        assert_eq!((log.set_level(0), log.level_down()), (0, 0));
        say();
        assert_eq!(said(&path)[3..], ["always 1"]);
        assert_eq!((log.set_level(300), log.level_up()), (11, 11));
        fs::rename(&path, &moved).expect("moved");
        tracing::trace!("into the old file");
        log.reopen().expect("reopened");
        tracing::trace!("into the new file");
        assert_eq!((said(&moved).len(), said(&path)), (5, vec!["into the new file".to_owned()]));
        let line = fs::read_to_string(&moved).expect("log").lines().next().expect("a line").to_owned();
        assert!(line.starts_with('[') && line.as_bytes()[24] == b']', "{line}");
    }

    #[test]
    fn a_line_is_one_line() {
        let mut line = "a\nb\r\u{1b}[31m".to_owned();
        finish(&mut line);
        assert_eq!(line, "a\\nb\\r\\u{1b}[31m\n");
        let mut line = "é".repeat(LINE_BYTES_MAX);
        finish(&mut line);
        assert!(line.len() <= LINE_BYTES_MAX && line.ends_with("é\n"));
    }
}
