//! Bytes ↔ requests and replies. Pure: no sockets, no clock, no ring.

pub mod c_peer;
pub mod codec;
pub mod commands;
pub mod keys;
pub mod memcache;
pub mod merge;
pub mod peer;
pub mod reply;
pub mod request;
pub mod resp;
pub mod split;

/// Which language the client and the datastore speak: the pool's `data_store`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Resp,
    Memcache,
}
