//! A key's position on the ring.

/// A position on the ring: the 32-bit hash of a key, or the end of the range that a node owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Token(pub u32);
