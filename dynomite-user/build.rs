//! Puts the kernel object where the library can embed it: the one that `cargo xtask ebpf` kept in the repository.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let kept = PathBuf::from("../dynomite-ebpf/prebuilt/dynomite-ebpf.o");
    println!("cargo::rerun-if-changed={}", kept.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("dynomite-ebpf.o");
    fs::copy(&kept, &out).unwrap_or_else(|error| panic!("{}: {error}", kept.display()));
}
