//! Frames between nodes (DNODE).
