//! A Redis, as far as an application's data go: RESP2, one database, commands of Redis 7.0 with its words.
//! Absent: streams, geography, HyperLogLog, Lua (a script is known by its text or not at all; those of read repair are),
//! persistence, replication.

#![expect(clippy::unit_arg, reason = "a command's last word is its reply: `Ok(count(n, out))` says so")]

mod arguments;
mod bits;
mod fail;
mod hash;
mod hub;
mod keys;
mod list;
mod node;
mod repair;
mod script;
mod set;
mod sort;
mod sorted;
mod sorted_many;
mod store;
mod table;
mod text;
mod value;

pub use hub::{Hub, SessionId, Taken};
pub use repair::scripts as repair_scripts;
pub use script::Script;
pub use store::Store;
