//! Keys → owners. Never sees a protocol.

pub mod hash;

/// A node's place in the list of nodes: 0 is this node, then seeds in file order, then nodes learned later.
/// A place is never given to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u32);

impl PeerId {
    pub const SELF: PeerId = PeerId(0);
}
