//! RESP2 replies of the shared datastore connections → RESP3 replies for clients that said HELLO 3.

/// How a RESP2 reply becomes a RESP3 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Only nulls change.
    Same,
}
