//! What we make of a protocol, held against the real datastores: the same bytes must be answered the same.
//! One level below the daemon: no node runs here, only the pure parts between a client's bytes and a datastore's.

mod bytes;
mod commands;
