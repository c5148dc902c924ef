//! The shell around sockets: loops, few decisions.

pub mod admin;
pub mod endpoints;
