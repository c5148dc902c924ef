//! The documents made of the stats.
