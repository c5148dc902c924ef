//! Frames between nodes (DNODE). The payload is the datastore's protocol, or gossip as opaque bytes.
//!
//! An inbound connection: `scan` → for `Execute` and `Forward` the datastore's request decoder on what follows the head,
//! `Responder::asked` with the id, and `Responder::answer` when the coordinator says the reply; for `Gossip` `gossip`; any
//! other message is dropped with its head, and what follows is garbage up to the next.
//! An outbound connection: `Matcher::sent` for the id of a request; `scan` → for replies the datastore's reply scanner on
//! what follows the head, and `Matcher::replied` for whose it is.
//! An encrypted message on a node without keys ends the connection.

pub mod decode;
pub mod encode;
pub mod header;
pub mod order;

pub use decode::{GossipScan, Scan, gossip, scan};
pub use header::{Header, Message};
pub use order::{Matcher, Responder};

#[cfg(test)]
mod testing;
