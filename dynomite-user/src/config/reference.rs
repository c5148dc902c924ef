//! The table of keys as a file to read and to start from: conf/reference.yml.

use std::fmt::Write as _;

use super::options::{GROUPS, KERNEL, Kind, Row, Unset};

const HEAD: &str = "\
# Every key, with its default. Generated from the table in dynomite-user/src/config/options.rs: change it there, then
# `DYNOMITE_DOCS=write cargo test -p dynomite-user config::` writes this file.
#
# Keys that stand behind a `#` are unset when they are left out. `listen`, `dyn_listen`, `servers` and `tokens` must be
# given. Where 0 makes no sense it stands for the default. The pool may have any name; the stats document uses it.
";

/// The text of conf/reference.yml.
pub fn reference() -> String {
    let mut out = String::from(HEAD);
    out.push_str("dyn_o_mite:\n");
    for (title, rows) in GROUPS {
        let _ = writeln!(out, "\n  # --- {title}");
        rows.iter().for_each(|row| key(&mut out, row, 2));
    }
    out
}

fn key(out: &mut String, row: &Row, indent: usize) {
    let blank = " ".repeat(indent);
    if let Kind::Obsolete = row.kind {
        let _ = writeln!(out, "{blank}# {}: {}", row.name, row.help);
        return;
    }
    let _ = writeln!(out, "\n{blank}# {}", row.help);
    if let Some(kind) = kind(row.kind) {
        let _ = writeln!(out, "{blank}# {kind}");
    }
    if let Kind::Map(_) = row.kind {
        let _ = writeln!(out, "{blank}{}:", row.name);
        return KERNEL.iter().for_each(|row| key(out, row, indent + 2));
    }
    let (mark, value) = match row.unset {
        Unset::Is(text) | Unset::Required(text) => ("", text),
        Unset::Absent(text) => ("# ", text),
    };
    let _ = match row.kind {
        Kind::Datastores | Kind::Seeds => writeln!(out, "{blank}{mark}{}:\n{blank}{mark}- {value}", row.name),
        _ => writeln!(out, "{blank}{mark}{}: {}", row.name, written(value)),
    };
}

/// As YAML wants it.
fn written(value: &str) -> String {
    if value.starts_with('{') { format!("\"{value}\"") } else { value.to_owned() }
}

fn kind(kind: Kind) -> Option<String> {
    let numbers = |unit: &str, from: u64, to: u64| Some(format!("{unit}{from} to {to}"));
    match kind {
        Kind::Count(from, to) => numbers("", from, to),
        Kind::Millis(from, to) => numbers("Milliseconds, ", from, to),
        Kind::Bytes(from, to) => numbers("Bytes, ", from, to),
        Kind::Flag => Some("true or false".to_owned()),
        Kind::Choice(names) => Some(format!("One of: {}", names.join(", "))),
        _ => None,
    }
}
