//! What the kernel programs and the daemon must agree on, and nothing else. `no_std`, no allocation.
#![cfg_attr(not(test), no_std)]

pub mod token;
