//! Puts the kernel object where the library can embed it: the one that `cargo xtask ebpf` kept in the repository, or the
//! one that `DYNOMITE_KERNEL_OBJECT` names.

use std::path::PathBuf;
use std::{env, fs};

const OTHER: &str = "DYNOMITE_KERNEL_OBJECT";

fn main() {
    let kept = || "../dynomite-ebpf/prebuilt/dynomite-ebpf.o".into();
    let object = env::var_os(OTHER).map_or_else(kept, PathBuf::from);
    println!("cargo::rerun-if-env-changed={OTHER}");
    println!("cargo::rerun-if-changed={}", object.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("dynomite-ebpf.o");
    fs::copy(&object, &out).unwrap_or_else(|error| panic!("{}: {error}", object.display()));
}
