//! Scripts that are known by their text: there is no interpreter, each is a function.
//! Owns: EVAL and its kind. The scripts themselves are given to the store by whoever needs them. As in a Redis, a digest
//! names a script only after its text was seen.

use super::arguments::{Arguments, count, ok};
use super::fail::{Fail, NOT_INTEGER, Outcome};
use super::store::Store;
use super::table::check_second;
use crate::embedded::number::parse_integer;
use crate::protocol::resp::encode;

/// A script, and what it does.
#[derive(Debug)]
pub struct Script {
    pub text: &'static str,
    /// The digest of the text, 40 hexadecimal digits in lower case.
    pub sha1: &'static str,
    /// Keys, arguments, and the reply to append. What it calls, it calls with `Store::call`.
    pub run: fn(&mut Store, Arguments<'_>, Arguments<'_>, &mut Vec<u8>) -> Outcome,
}

impl Store {
    fn has_loaded(&self, script: &Script, sha1: &[u8]) -> bool {
        sha1.eq_ignore_ascii_case(script.sha1.as_bytes()) && self.loaded.contains(script.sha1)
    }

    /// For scripts: one command, its reply appended, at the time of the script's own command. A key that it gave a time to
    /// live which is over already is gone for the next one.
    pub fn call(&mut self, arguments: Arguments<'_>, out: &mut Vec<u8>) {
        self.run(arguments, out);
        self.pass_time(self.now_millis);
    }
}

pub fn eval(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let known = store.scripts.iter().find(|script| script.text.as_bytes() == arguments[1]);
    store.loaded.extend(known.map(|script| script.sha1));
    run(store, known, Fail::of("ERR this datastore has no interpreter for scripts"), arguments, out)
}

pub fn evalsha(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let known = store.scripts.iter().find(|script| store.has_loaded(script, arguments[1]));
    run(store, known, Fail::of("NOSCRIPT No matching script. Please use EVAL."), arguments, out)
}

fn run(
    store: &mut Store,
    script: Option<&'static Script>,
    unknown: Fail,
    arguments: Arguments<'_>,
    out: &mut Vec<u8>,
) -> Outcome {
    let keys = parse_integer(arguments[2]).ok_or(NOT_INTEGER)?;
    let keys = match usize::try_from(keys) {
        Err(_) => return Err(Fail::of("ERR Number of keys can't be negative")),
        Ok(keys) if keys > arguments.len() - 3 => {
            return Err(Fail::of("ERR Number of keys can't be greater than number of args"));
        }
        Ok(keys) => keys,
    };
    let script = script.ok_or(unknown)?;
    let (keys, rest) = arguments[3..].split_at(keys);
    (script.run)(store, keys, rest, out)
}

pub fn script(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    check_second(&[("exists", -3), ("flush", -2), ("kill", 2), ("load", 3)], arguments)?;
    match arguments[1].to_ascii_lowercase().as_slice() {
        b"load" => {
            let known = store.scripts.iter().find(|script| script.text.as_bytes() == arguments[2]);
            let script = known.ok_or(Fail::of("ERR this datastore has no interpreter for scripts"))?;
            store.loaded.insert(script.sha1);
            encode::bulk(script.sha1.as_bytes(), out);
        }
        b"exists" => {
            encode::array_head(arguments.len() - 2, out);
            for sha1 in &arguments[2..] {
                let known = store.scripts.iter().any(|script| store.has_loaded(script, sha1));
                count(usize::from(known), out);
            }
        }
        b"flush" => {
            store.loaded.clear();
            ok(out);
        }
        _ => return Err(Fail::of("NOTBUSY No scripts in execution right now.")),
    }
    Ok(())
}
