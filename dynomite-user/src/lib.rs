//! Dynomite: a thin Dynamo layer over single-server datastores. The modules, in the order a request meets them.

pub mod protocol;
pub mod ring;
pub mod coordinator;
pub mod net;
pub mod embedded;
pub mod config;
pub mod stats;
pub mod moment;
