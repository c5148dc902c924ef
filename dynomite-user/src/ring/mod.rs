//! Keys → owners. Never sees a protocol, a socket or a clock.

pub mod continuum;
pub mod describe;
pub mod hash;
pub mod places;
pub mod snitch;
pub mod together;
pub mod token;
pub mod topology;

pub use describe::describe;
pub use hash::{HashKind, HashTag};
pub use together::{Reach, together};
pub use topology::{Node, Topology};

/// A node's place in the list of nodes: 0 is this node, then seeds in file order, then nodes learned later.
/// A place is never given to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u32);

impl PeerId {
    pub const SELF: PeerId = PeerId(0);
}
