//! memcached text, classic and meta commands.
//!
//! Requests walk `decode` → `rewrite` (what a shared connection is sent instead of a quiet request) → `reply` (where the
//! answer ends) → `silence` (whether the client is told). Multi-key reads pass `merge` on both ways.

pub mod commands;
pub mod decode;
pub mod line;
pub mod merge;
pub mod reply;
pub mod rewrite;
pub mod silence;
mod spread;

pub use decode::Decoder;
pub use line::Words;
pub use reply::ReplyScanner;
pub use silence::Silence;

/// memcached's limit on keys, and the C program's.
pub const KEY_BYTES_MAX: usize = 250;
