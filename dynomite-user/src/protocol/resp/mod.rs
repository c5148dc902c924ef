//! RESP, versions 2 and 3.

pub mod resp3;
