//! RESP, versions 2 and 3.

pub mod arguments;
pub mod commands;
pub mod cursor;
pub mod decode;
mod describe;
pub mod encode;
mod find;
pub mod glob;
pub(in crate::protocol) mod head;
mod inline;
pub(in crate::protocol) mod refuse;
pub mod repair;
pub mod resp3;
pub mod scan;
pub mod session;
