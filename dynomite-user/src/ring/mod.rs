//! Keys → owners. Never sees a protocol.
