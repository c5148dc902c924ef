//! What the kernel programs and the daemon must agree on, and nothing else. `no_std`, no allocation.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod abi;
pub mod event;
pub mod flow;
pub mod frame;
pub mod gate;
pub mod guard;
pub mod limits;
pub mod pair;
pub mod peek;
pub mod reason;
pub mod token;
pub mod verifier;
