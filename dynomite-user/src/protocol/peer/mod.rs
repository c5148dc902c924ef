//! Frames between nodes (DNODE). The payload is the datastore's protocol, or gossip as opaque bytes.
//!
//! `Hearing` and `Responder` are the end of a connection that is asked, `Asking` the end that asks. Both are built from
//! `decode` (finds heads, whatever surrounds them), `encode` and `order` (which reply is whose).

pub mod asking;
pub mod decode;
pub mod encode;
pub mod header;
pub mod hearing;
pub mod order;
#[cfg(test)]
mod testing;

pub use asking::{Asking, Said};
pub use decode::{GossipScan, Scan, gossip, scan};
pub use header::{Header, Message};
pub use hearing::{Heard, Hearing};
pub use order::{Matcher, Question, Responder};
