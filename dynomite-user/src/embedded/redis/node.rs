//! What is asked about the datastore itself.

use super::arguments::{Arguments, count, integer, is, ok};
use super::fail::{Fail, Outcome, SYNTAX};
use super::store::Store;
use super::table::{ROWS, check_second};
use crate::protocol::resp::{encode, glob};

/// The Redis whose words are spoken here.
const VERSION: &str = "7.0.15";

pub fn ping(_: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    match arguments {
        [_] => encode::status("PONG", out),
        [_, text] => encode::bulk(text, out),
        _ => return Err(Fail::arity("ping")),
    }
    Ok(())
}

pub fn echo(_: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    encode::bulk(arguments[1], out);
    Ok(())
}

pub fn select(_: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    match integer(arguments[1])? {
        0 => Ok(ok(out)),
        _ => Err(Fail::of("ERR DB index is out of range")),
    }
}

pub fn auth(_: &mut Store, arguments: Arguments<'_>, _: &mut Vec<u8>) -> Outcome {
    if arguments.len() > 3 {
        return Err(SYNTAX);
    }
    Err(Fail::of(
        "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
    ))
}

pub fn time(store: &mut Store, _: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    encode::array_head(2, out);
    encode::bulk((store.now_millis / 1000).to_string().as_bytes(), out);
    encode::bulk((store.now_millis % 1000 * 1000).to_string().as_bytes(), out);
    Ok(())
}

pub fn wait(_: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    integer(arguments[1])?;
    integer(arguments[2])?;
    count(0, out);
    Ok(())
}

pub fn info(store: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    let wanted = |section: &str| {
        let all = ["all", "everything", "default"];
        arguments.len() == 1
            || arguments[1..].iter().any(|name| is(name, section) || all.iter().any(|word| is(name, word)))
    };
    let keys = store.entries().len();
    let ending = store.entries().iter().filter(|(_, entry)| entry.expires_at.is_some()).count();
    let sections = [
        ("Server", format!("redis_version:{VERSION}\r\nredis_mode:standalone\r\nos:embedded\r\narch_bits:64\r\n")),
        ("Clients", "connected_clients:1\r\nblocked_clients:0\r\n".into()),
        ("Memory", "used_memory:0\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n".into()),
        ("Persistence", "loading:0\r\n".into()),
        ("Stats", format!("total_commands_processed:{}\r\n", store.commands_processed)),
        ("Replication", "role:master\r\nconnected_slaves:0\r\n".into()),
        (
            "Keyspace",
            match keys {
                0 => String::new(),
                _ => format!("db0:keys={keys},expires={ending},avg_ttl=0\r\n"),
            },
        ),
    ];
    let told: Vec<String> =
        sections.iter().filter(|(name, _)| wanted(name)).map(|(name, lines)| format!("# {name}\r\n{lines}")).collect();
    encode::bulk(told.join("\r\n").as_bytes(), out);
    Ok(())
}

/// What clients ask for when they connect; nothing here can be set.
const SETTINGS: &[(&str, &str)] = &[
    ("appendonly", "no"),
    ("databases", "1"),
    ("maxmemory", "0"),
    ("maxmemory-policy", "noeviction"),
    ("proto-max-bulk-len", "536870912"),
    ("save", ""),
    ("timeout", "0"),
];

pub fn config(_: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    check_second(&[("get", -3), ("resetstat", 2), ("set", -4)], arguments)?;
    if is(arguments[1], "resetstat") {
        return Ok(ok(out));
    }
    if is(arguments[1], "set") {
        return Err(Fail::of("ERR the embedded datastore has no settings"));
    }
    let is_wanted =
        |name: &str| arguments[2..].iter().any(|pattern| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes()));
    let found: Vec<_> = SETTINGS.iter().filter(|(name, _)| is_wanted(name)).collect();
    encode::array_head(found.len() * 2, out);
    for (name, value) in found {
        encode::bulk(name.as_bytes(), out);
        encode::bulk(value.as_bytes(), out);
    }
    Ok(())
}

pub fn command(_: &mut Store, arguments: Arguments<'_>, out: &mut Vec<u8>) -> Outcome {
    if arguments.len() > 1 {
        check_second(&[("count", 2), ("docs", -2), ("info", -2), ("list", -2)], arguments)?;
    }
    match arguments.get(1).map(|word| word.to_ascii_lowercase()).as_deref() {
        Some(b"count") => count(ROWS.len(), out),
        Some(b"docs") => encode::array_head(0, out),
        Some(b"list") => {
            encode::array_head(ROWS.len(), out);
            ROWS.iter().for_each(|row| encode::bulk(row.name.as_bytes(), out));
        }
        _ => {
            let named: Vec<_> = match arguments.get(2..).unwrap_or_default() {
                [] => ROWS.iter().map(Some).collect(),
                names => names.iter().map(|name| super::table::find(name)).collect(),
            };
            encode::array_head(named.len(), out);
            for row in named {
                match row {
                    None => super::arguments::null_array(out),
                    Some(row) => {
                        encode::array_head(10, out);
                        encode::bulk(row.name.as_bytes(), out);
                        encode::integer(row.arity.into(), out);
                        (0..8).for_each(
                            |at| if (1..4).contains(&at) { count(0, out) } else { encode::array_head(0, out) },
                        );
                    }
                }
            }
        }
    }
    Ok(())
}
