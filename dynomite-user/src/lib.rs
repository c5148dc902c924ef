//! Dynomite: a thin Dynamo layer over single-server datastores. The modules, in the order a request meets them.

pub mod config;
pub mod control;
pub mod coordinator;
pub mod daemon;
pub mod embedded;
pub mod kernel;
pub mod log;
pub mod moment;
pub mod net;
pub mod protocol;
pub mod ring;
pub mod stats;

/// As `-V` and the stats document say it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
