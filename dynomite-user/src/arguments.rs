//! The command line: what may be said, and the words for what may not.
//! Owns: options, their help, and the messages that scripts have matched on for years. Does nothing by itself.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};

use dynomite_user::log::{LEVEL_DEFAULT, LEVEL_MAX};

pub const CONF_FILE: &str = "conf/dynomite.yml";

pub const USAGE: &str = "\
Usage: dynomite [-?hVdDtg] [-v verbosity level] [-o output file]
                [-c conf file] [-p pid file] [-s stats port] [-a stats addr]
                [-x admin operation] [--workers N] [--embedded-datastore]
       dynomite hash [-c conf file] [--] [KEY...]
       dynomite kernel-check [-c conf file]

Options:
  -h, --help             : this help
  -V, --version          : show version and exit
  -t, --test-conf        : test configuration, say everything that is wrong with it, and exit
  -g, --gossip           : enable gossip, as enable_gossip does; there is none yet: without effect but a warning
  -d, --daemonize        : run as a daemon
  -D, --describe-stats   : print stats description and exit
  -v, --verbosity=N      : set logging level (default: 5, min: 0, max: 11)
  -o, --output=S         : set logging file (default: stderr)
  -c, --conf-file=S      : set configuration file (default: conf/dynomite.yml)
  -p, --pid-file=S       : set pid file (default: off)
  -s, --stats-port=N     : set stats port; wins over stats_listen (default: 22222)
  -a, --stats-addr=S     : set stats address; wins over stats_listen (default: 0.0.0.0)
  -i, --stats-interval=N : accepted without effect: stats are always current
  -m, --mbuf-size=N      : deprecated: mbuf_size, unless the file has it (default: 16384 bytes)
  -M, --max-msgs=N       : deprecated: max_msgs, unless the file has it (default: 200000)
  -x, --admin-operation=N: 1 or more: make no peer connections; 1: delete only own keys (default: 0)
  -y, --admin-param=S    : accepted without effect
      --workers=N        : threads that serve clients; wins over workers (default: one a core but one)
      --embedded-datastore : keep data in this process instead of the datastore: for trying out and for tests

Commands:
  hash [KEY...]          : where keys live: hash, token and owners; keys from standard input when none is given
  kernel-check           : what the kernel of this machine can do for us, and why not the rest
";

#[derive(Parser, Debug)]
#[command(
    name = "dynomite",
    disable_help_flag = true,
    disable_version_flag = true,
    disable_help_subcommand = true,
    infer_long_args = true,
    args_override_self = true
)]
struct Line {
    #[command(flatten)]
    options: Raw,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, Clone, Debug, PartialEq, Eq)]
pub enum Command {
    #[command(disable_help_flag = true)]
    Hash { keys: Vec<OsString> },
    #[command(disable_help_flag = true)]
    KernelCheck,
}

/// As typed, before or behind a command. A value that begins with a dash is a value, as getopt has it.
#[derive(Args, Debug)]
struct Raw {
    #[arg(short = 'h', short_alias = '?', long, global = true)]
    help: bool,
    #[arg(short = 'V', long, global = true)]
    version: bool,
    #[arg(short = 't', long, global = true)]
    test_conf: bool,
    #[arg(short = 'g', long, global = true)]
    gossip: bool,
    #[arg(short = 'd', long, global = true)]
    daemonize: bool,
    #[arg(short = 'D', long, global = true)]
    describe_stats: bool,
    #[arg(short = 'v', long, allow_hyphen_values = true, global = true)]
    verbosity: Option<String>,
    #[arg(short = 'o', long, allow_hyphen_values = true, global = true)]
    output: Option<PathBuf>,
    #[arg(short = 'c', long, allow_hyphen_values = true, global = true)]
    conf_file: Option<PathBuf>,
    #[arg(short = 'p', long, allow_hyphen_values = true, global = true)]
    pid_file: Option<PathBuf>,
    #[arg(short = 's', long, allow_hyphen_values = true, global = true)]
    stats_port: Option<String>,
    #[arg(short = 'a', long, allow_hyphen_values = true, global = true)]
    stats_addr: Option<String>,
    #[arg(short = 'i', long, allow_hyphen_values = true, global = true)]
    stats_interval: Option<String>,
    #[arg(short = 'm', long, allow_hyphen_values = true, global = true)]
    mbuf_size: Option<String>,
    #[arg(short = 'M', long, allow_hyphen_values = true, global = true)]
    max_msgs: Option<String>,
    #[arg(short = 'x', long, allow_hyphen_values = true, global = true)]
    admin_operation: Option<String>,
    #[arg(short = 'y', long, allow_hyphen_values = true, global = true)]
    admin_param: Option<String>,
    #[arg(long, allow_hyphen_values = true, global = true)]
    workers: Option<String>,
    #[arg(long, global = true)]
    embedded_datastore: bool,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// Print and exit 0: any of them may be asked for together.
    Print {
        help: bool,
        describe_stats: bool,
    },
    TestConf,
    Run,
    Other(Command),
}

/// A command line that makes sense.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    pub task: Task,
    pub gossip: bool,
    pub daemonize: bool,
    pub verbosity: u8,
    pub output: Option<PathBuf>,
    /// As given; `CONF_FILE` otherwise.
    pub conf_file: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub stats_port: Option<u16>,
    pub stats_addr: Option<String>,
    pub mbuf_size: Option<u64>,
    pub max_msgs: Option<u64>,
    pub admin_operation: u32,
    pub workers: Option<usize>,
    pub embedded_datastore: bool,
}

/// What stands on standard error, before the usage when `usage` says so; the exit code is 1.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub message: String,
    pub usage: bool,
}

pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Arguments, Refused> {
    let line = Line::try_parse_from(words).map_err(|error| of_clap(&error))?;
    let raw = line.options;
    let number = |option: &str, text: Option<String>| match text.map(|text| digits(&text)) {
        None => Ok(None),
        Some(Some(number)) => Ok(Some(number)),
        Some(None) => Err(refused(format!("option {option} requires a number"))),
    };
    let verbosity = number("-v", raw.verbosity)?.unwrap_or(u64::from(LEVEL_DEFAULT)).min(u64::from(LEVEL_MAX)) as u8;
    let stats_port = match number("-s", raw.stats_port)? {
        Some(port) => match u16::try_from(port) {
            Ok(port) if port > 0 => Some(port),
            _ => return Err(refused("option -s value is not a valid port")),
        },
        None => None,
    };
    number("-i", raw.stats_interval)?;
    let mbuf_size = number("-m", raw.mbuf_size)?;
    if let Some(bytes) = mbuf_size {
        if !(512..=512_000).contains(&bytes) {
            return Err(only("mbuf_size: mbuf chunk size must be between 512 and 512000 bytes"));
        } else if bytes % 16 != 0 {
            return Err(only("mbuf_size: mbuf size must be a multiple of 16"));
        }
    }
    let max_msgs = number("-M", raw.max_msgs)?;
    if max_msgs.is_some_and(|count| !(100_000..=1_000_000).contains(&count)) {
        return Err(only("max_msgs: max allocated messages buffer must be between 100000 and 1000000 messages"));
    }
    let admin_operation = match raw.admin_operation.map(|text| digits(&text).and_then(|n| u32::try_from(n).ok())) {
        None => 0,
        Some(Some(operation)) if operation > 0 => operation,
        Some(_) => return Err(refused("option -x requires a non-zero positive number")),
    };
    let workers = match number("--workers", raw.workers)? {
        Some(count) if (1..=1024).contains(&count) => Some(count as usize),
        Some(_) => return Err(refused("option --workers requires a number from 1 to 1024")),
        None => None,
    };
    let task = match line.command {
        _ if raw.help || raw.version || raw.describe_stats => {
            Task::Print { help: raw.help, describe_stats: raw.describe_stats }
        }
        _ if raw.test_conf => Task::TestConf,
        Some(command) => Task::Other(command),
        None => Task::Run,
    };
    Ok(Arguments {
        task,
        gossip: raw.gossip,
        daemonize: raw.daemonize,
        verbosity,
        output: raw.output.filter(|path| !path.as_os_str().is_empty()),
        conf_file: raw.conf_file,
        pid_file: raw.pid_file,
        stats_port,
        stats_addr: raw.stats_addr,
        mbuf_size,
        max_msgs,
        admin_operation,
        workers,
        embedded_datastore: raw.embedded_datastore,
    })
}

fn digits(text: &str) -> Option<u64> {
    // Too many digits for a number are still a number, above every limit.
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().unwrap_or(u64::MAX))
}

fn refused(message: impl AsRef<str>) -> Refused {
    Refused { message: format!("dynomite: {}", message.as_ref()), usage: true }
}

fn only(message: &str) -> Refused {
    Refused { message: message.to_owned(), usage: false }
}

/// clap's finding, in the words of getopt.
fn of_clap(error: &clap::Error) -> Refused {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.as_str(),
        Some(ContextValue::Strings(arguments)) => arguments.first().map_or("", String::as_str),
        _ => "",
    };
    // `--conf-file <CONF_FILE>` or `--help`: the name alone.
    let name = argument.split([' ', '=']).next().unwrap_or("").trim_start_matches('-');
    match error.kind() {
        ErrorKind::UnknownArgument if !argument.starts_with('-') => refused(format!("invalid argument '{argument}'")),
        ErrorKind::InvalidSubcommand => {
            let word = match error.get(ContextKind::InvalidSubcommand) {
                Some(ContextValue::String(word)) => word,
                _ => "",
            };
            refused(format!("invalid argument '{word}'"))
        }
        ErrorKind::InvalidValue | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            let (letter, wanted) = match name {
                "output" => ("-o", "a file name"),
                "conf-file" => ("-c", "a file name"),
                "pid-file" => ("-p", "a file name"),
                "verbosity" => ("-v", "a number"),
                "mbuf-size" => ("-m", "a number"),
                "max-msgs" => ("-M", "a number"),
                "stats-port" => ("-s", "a number"),
                "stats-interval" => ("-i", "a number"),
                "stats-addr" => ("-a", "a string"),
                "admin-param" => ("-y", "a string"),
                "admin-operation" => ("-x", "a number"),
                _ => return refused(format!("option --{name} requires a value")),
            };
            refused(format!("option {letter} requires {wanted}"))
        }
        ErrorKind::TooManyValues => refused(format!("option --{name} takes no value")),
        _ => refused(format!("invalid option -- '{name}'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, Refused> {
        parse(std::iter::once("dynomite").chain(line.split_whitespace()).map(OsString::from))
    }

    fn check(line: &str, task: Task) {
        assert_eq!(parsed(line).map(|arguments| arguments.task), Ok(task), "{line}");
    }

    fn refuse(line: &str, message: &str) {
        assert_eq!(parsed(line).map_err(|refused| refused.message), Err(message.to_owned()), "{line}");
    }

    #[test]
    fn clap_accepts_the_table() {
        use clap::CommandFactory as _;
        Line::command().debug_assert();
    }

    #[test]
    fn tasks() {
        let print = |help, describe_stats| Task::Print { help, describe_stats };
        check("", Task::Run);
        check("-c x -d", Task::Run);
        check("-t", Task::TestConf);
        check("-t -h", print(true, false));
        check("-?", print(true, false));
        check("-hVD", print(true, true));
        check("-V -V", print(false, false));
        check("--vers", print(false, false));
        check("--test", Task::TestConf);
        check("-c x hash a b", Task::Other(Command::Hash { keys: vec!["a".into(), "b".into()] }));
        check("kernel-check", Task::Other(Command::KernelCheck));
        let hash = |keys: &[&str]| Task::Other(Command::Hash { keys: keys.iter().map(Into::into).collect() });
        for line in ["-c x hash a b", "hash -c x a b", "hash a -c x b", "hash a b -cx", "hash a b --conf-file=x"] {
            check(line, hash(&["a", "b"]));
            assert_eq!(parsed(line).expect("valid").conf_file, Some("x".into()), "{line}");
        }
        check("hash -- -c x", hash(&["-c", "x"]));
        for line in ["hash --help", "hash -h", "hash a -?", "kernel-check --help", "--help hash"] {
            check(line, print(true, false));
        }
        check("kernel-check -V", print(false, false));
    }

    #[test]
    fn values_stand_behind_long_and_short_names() {
        for line in ["-v 7 -c f", "-v7 -cf", "--verbosity=7 --conf-file=f", "--verb 7 --conf f", "-v 2 -v 7 -c g -c f"]
        {
            let arguments = parsed(line).unwrap_or_else(|refused| panic!("{line}: {refused:?}"));
            assert_eq!((arguments.verbosity, arguments.conf_file), (7, Some("f".into())), "{line}");
        }
        let arguments = parsed("-s 1 -a h -i 5 -m 1024 -M 100000 -x 1 -y q -p p -o o -g --workers 3").expect("valid");
        assert_eq!((arguments.stats_port, arguments.stats_addr.as_deref()), (Some(1), Some("h")));
        assert_eq!(
            (arguments.mbuf_size, arguments.max_msgs, arguments.admin_operation),
            (Some(1024), Some(100_000), 1)
        );
        assert_eq!((arguments.pid_file, arguments.output), (Some("p".into()), Some("o".into())));
        assert_eq!((arguments.workers, arguments.gossip), (Some(3), true));
        assert_eq!(parsed("-v 99").expect("clamped").verbosity, LEVEL_MAX);
    }

    #[test]
    fn refusals_have_their_known_words() {
        refuse("-z", "dynomite: invalid option -- 'z'");
        refuse("--zzz", "dynomite: invalid option -- 'zzz'");
        refuse("-tz", "dynomite: invalid option -- 'z'");
        refuse("-c", "dynomite: option -c requires a file name");
        refuse("--output", "dynomite: option -o requires a file name");
        refuse("-v", "dynomite: option -v requires a number");
        refuse("-v x", "dynomite: option -v requires a number");
        refuse("-v -1", "dynomite: option -v requires a number");
        refuse("-m 1k", "dynomite: option -m requires a number");
        refuse("-a", "dynomite: option -a requires a string");
        refuse("-s 70000", "dynomite: option -s value is not a valid port");
        refuse("-x 0", "dynomite: option -x requires a non-zero positive number");
        refuse("-x y", "dynomite: option -x requires a non-zero positive number");
        refuse("-m 100", "mbuf_size: mbuf chunk size must be between 512 and 512000 bytes");
        refuse("-m 1000", "mbuf_size: mbuf size must be a multiple of 16");
        refuse("-M 5", "max_msgs: max allocated messages buffer must be between 100000 and 1000000 messages");
        refuse("--help=yes", "dynomite: option --help takes no value");
        refuse("start", "dynomite: invalid argument 'start'");
        refuse("hash -z", "dynomite: invalid option -- 'z'");
        refuse("hash a -c", "dynomite: option -c requires a file name");
        refuse("kernel-check now", "dynomite: invalid argument 'now'");
    }

    #[test]
    fn the_usage_names_every_option() {
        use clap::CommandFactory as _;
        for option in Line::command().get_arguments() {
            let long = option.get_long().expect("a long name");
            assert!(USAGE.contains(&format!("--{long}")), "{long}");
        }
    }
}
