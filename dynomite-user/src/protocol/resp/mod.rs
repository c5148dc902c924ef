//! RESP, versions 2 and 3.

pub mod arguments;
pub mod commands;
pub mod decode;
pub mod encode;
mod find;
mod head;
mod inline;
mod refuse;
pub mod resp3;
pub mod scan;
