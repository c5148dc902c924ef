//! Programs a test needs. A test that cannot run says so aloud, past the test runner's capture, and in the list that `cargo xtask test` prints.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where the program is, or `None` after saying that the calling test is skipped.
#[must_use]
pub fn need(program: &str) -> Option<PathBuf> {
    let found = find(program);
    if found.is_none() {
        skip(&format!("{program} is not on PATH"));
    }
    found
}

/// Says that the calling test is skipped, and why.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {reason}\n", thread.name().unwrap_or("?"));
    // Not `eprintln!`: what passing tests print that way is swallowed.
    let _ = std::io::stderr().write_all(format!("SKIPPED {line}").as_bytes());
    if let Some(list) = env::var_os("DYNOMITE_SKIPS") {
        let _ = OpenOptions::new()
            .create(true)
            .append(true)
            .open(list)
            .and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// What `cargo xtask test` installed for the tests: clients in other languages.
pub fn tools() -> PathBuf {
    target().join("tools")
}

/// Cargo's target directory: the test binary lies in it.
pub fn target() -> PathBuf {
    let binary = env::current_exe().expect("a test knows its own path");
    let target = binary.ancestors().find(|place| place.join("CACHEDIR.TAG").is_file());
    target.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), Path::to_path_buf)
}
