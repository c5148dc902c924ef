//! `cargo xtask tidy`: rules about the sources that no compiler checks.
//! Owns: the tables below. A rule is a row; when a rule stands in the way of better code, change the row and say why.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::shell;

#[derive(clap::Args)]
pub struct Args {}

/// Who never hears of whom. A part is a file or a directory; tests inside it are held to the same rule.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("dynomite-common/src", &["std::", "extern crate alloc", "dynomite_user"]),
    ("dynomite-ebpf/src", &["dynomite_user", "std::"]),
    (
        "dynomite-user/src/protocol",
        &[
            "crate::ring",
            "crate::coordinator",
            "crate::net",
            "crate::config",
            "tokio::",
            "mio::",
            "std::net",
            "Instant::now",
            "SystemTime::now",
        ],
    ),
    (
        "dynomite-user/src/ring",
        &[
            "crate::protocol",
            "crate::coordinator",
            "crate::net",
            "crate::config",
            "tokio::",
            "mio::",
            "std::net",
            "std::fs",
            "Instant::now",
            "SystemTime::now",
        ],
    ),
    (
        "dynomite-user/src/coordinator",
        &[
            "crate::net",
            "crate::kernel",
            "crate::config",
            "tokio::",
            "mio::",
            "std::net",
            "std::fs",
            "Instant::now",
            "SystemTime::now",
            "epoch_millis",
        ],
    ),
    (
        "dynomite-user/src/gossip",
        &[
            "crate::protocol",
            "crate::net",
            "crate::config",
            "tokio::",
            "mio::",
            "std::net::Tcp",
            "std::net::Udp",
            "std::fs",
            "Instant::now",
            "SystemTime::now",
            "epoch_millis",
        ],
    ),
    (
        "dynomite-user/src/embedded",
        &[
            "crate::net",
            "crate::config",
            "crate::coordinator",
            "tokio::",
            "mio::",
            "std::net",
            "std::fs",
            "Instant::now",
            "SystemTime::now",
        ],
    ),
    ("dynomite-user/src/kernel", &["crate::protocol", "crate::coordinator"]),
    ("dynomite-user/src/net", &["crate::config", "dynomite_common::abi"]),
    ("dynomite-user/src/config", &["TcpStream", "TcpListener", "UdpSocket", "mio::", "tokio::"]),
    (
        "dynomite-user/src/stats",
        &["crate::net", "crate::coordinator", "crate::protocol", "Instant::now", "SystemTime::now"],
    ),
];

/// Where unsafe code may be.
const UNSAFE_ALLOWED: &[&str] = &["dynomite-ebpf/src", "dynomite-common/src", "dynomite-user/src/kernel/sys.rs"];

/// What no file of the project says: places of one machine, and hosts that answer only there.
const WORDS: &[&str] = &[concat!("/wo", "rk/"), concat!("/op", "t/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// A file longer than this is two files.
const LINES_MAX: usize = 700;

pub fn run(_: Args) -> Result<()> {
    let mut problems = Vec::new();
    let mut count = 0;
    for path in files()? {
        let Ok(text) = fs::read_to_string(shell::root().join(&path)) else { continue };
        count += 1;
        words(&path, &text, &mut problems);
        if path.extension().is_some_and(|extension| extension == "rs") {
            source(&path, &text, &mut problems);
        }
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    if !problems.is_empty() {
        bail!("tidy: {} problems", problems.len());
    }
    println!("tidy: {count} files, nothing to say");
    Ok(())
}

/// Every file of the repository that git knows or would add, relative to the top.
fn files() -> Result<Vec<PathBuf>> {
    let output = shell::program("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).output()?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.lines().map(PathBuf::from).collect())
}

fn words(path: &Path, text: &str, problems: &mut Vec<String>) {
    for (number, line) in text.lines().enumerate() {
        for word in WORDS.iter().filter(|word| line.contains(**word)) {
            problems.push(format!("{}:{}: names a place of one machine: {word}", path.display(), number + 1));
        }
    }
}

fn source(path: &Path, text: &str, problems: &mut Vec<String>) {
    let mut say = |line: usize, what: String| problems.push(format!("{}:{line}: {what}", path.display()));
    if !text.starts_with("//!") && !text.starts_with("#![") {
        say(1, "has no head: begin with //! and what the file owns".into());
    }
    if text.lines().count() > LINES_MAX {
        say(1, format!("has more than {LINES_MAX} lines"));
    }
    let rules =
        DIRECTIONS.iter().filter(|(part, _)| path.starts_with(part) || path.with_extension("") == Path::new(part));
    let never: Vec<&str> = rules.flat_map(|(_, never)| never.iter().copied()).collect();
    let unsafe_allowed = UNSAFE_ALLOWED.iter().any(|place| path.starts_with(place));
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for word in never.iter().filter(|word| code.contains(**word)) {
            say(number + 1, format!("must not hear of `{word}` (ARCHITECTURE.md, directions)"));
        }
        if !unsafe_allowed && has_unsafe(code) {
            say(number + 1, "unsafe outside of the places where it is allowed".into());
        }
    }
}

/// Does this line open unsafe code? Lint names and `forbid(unsafe_code)` do not count.
fn has_unsafe(code: &str) -> bool {
    code.split_once(concat!("uns", "afe ")).is_some_and(|(_, rest)| {
        ["{", "fn", "impl", "extern", "trait"].iter().any(|form| rest.trim_start().starts_with(form))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[&str]) {
        let mut problems = Vec::new();
        words(Path::new(path), text, &mut problems);
        source(Path::new(path), text, &mut problems);
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, part) in problems.iter().zip(expected) {
            assert!(problem.contains(part), "{problem} does not say {part}");
        }
    }

    #[test]
    fn rules_are_found_where_they_hold() {
        check("dynomite-user/src/ring/hash.rs", "//! Head.\nuse crate::net::x;\n", &["crate::net"]);
        check("dynomite-user/src/net/worker.rs", "//! Head.\nuse crate::net::x;\n", &[]);
        check("dynomite-user/src/coordinator/mod.rs", "//! Head.\nlet now = Instant::now();\n", &["Instant::now"]);
        check("dynomite-user/src/coordinator/mod.rs", "//! Head.\n// never Instant::now() here\n", &[]);
        check("dynomite-user/src/net/mod.rs", concat!("//! Head.\nuns", "afe { x() }\n"), &["outside"]);
        check("dynomite-user/src/kernel/sys.rs", concat!("//! Head.\nuns", "afe { x() }\n"), &[]);
        check("xtask/src/x.rs", "fn main() {}\n", &["no head"]);
        check("xtask/src/x.rs", concat!("//! See /wo", "rk/x\n"), &["one machine"]);
    }
}
