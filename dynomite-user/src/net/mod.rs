//! The shell around sockets: loops, few decisions. A worker is one thread: an epoll loop around its own connections
//! and its own coordinator.

pub mod admin;
pub mod buffer;
pub mod client;
pub mod datastore;
mod datastore_out;
pub mod embedded;
pub mod endpoints;
pub mod link;
pub mod listener;
pub mod notices;
pub mod peer;
pub mod peer_in;
mod peer_out;
pub mod perform;
pub mod presence;
pub mod stream;
mod throttle;
pub mod worker;
