//! What we make of memcached's protocol, held against a real memcached: the same bytes must be answered the same.
//! One level below the daemon: no node runs here, only the pure parts between a client's bytes and a datastore's.

mod bytes;
mod commands;
mod embedded;
