//! `cargo xtask ebpf`: the kernel object, built from source with whichever toolchain this machine has for it, and kept in
//! the repository beside a hash of what it was built from. A machine without one uses what is kept.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

use crate::{setup, shell};

#[derive(clap::Args, Default)]
pub struct Args {
    /// Only say whether what is kept was built from these sources
    #[arg(long)]
    check: bool,
    /// Build it, bringing a compiler where that may be done, and only say whether it is what is kept
    #[arg(long)]
    fresh: bool,
}

/// Newer ones want a system LLVM; this one uses the compiler's.
const LINKER_VERSION: &str = "0.10.1";
const TARGET: &str = "bpfel-unknown-none";

/// Debian's compiler that has a `core` for the target.
const PACKAGES: &[&str] = &["rustc-web", "libstd-rust-web-dev-bpf"];

/// The environment variable that lets a build embed another object than the one that is kept (dynomite-user/build.rs).
pub const OTHER_OBJECT: &str = "DYNOMITE_KERNEL_OBJECT";

/// What became of building the object only to test it.
pub enum Fresh {
    /// It is the one that is kept, byte for byte.
    Same,
    /// Another compiler's: to be tested in place of the one that is kept.
    Other(PathBuf),
    /// No compiler for it can be had here, and why.
    NoCompiler(String),
}

impl fmt::Display for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fresh::Same => write!(f, "byte for byte what is kept"),
            Fresh::Other(place) => write!(f, "not byte for byte what is kept: {}", place.display()),
            Fresh::NoCompiler(why) => write!(f, "NOT BUILT AFRESH, tests run with what is kept: {why}"),
        }
    }
}

pub fn run(args: Args) -> Result<()> {
    if args.check {
        return check();
    }
    if args.fresh {
        println!("{}", fresh()?);
        return Ok(());
    }
    let object = build(&Toolchain::find()?)?;
    fs::create_dir_all(kept().parent().context("a place for it")?)?;
    fs::write(kept(), &object)?;
    fs::write(kept_hash(), format!("{}\n", hash_of_sources()?))?;
    println!("{}: {} bytes", kept().display(), object.len());
    Ok(())
}

/// Builds the object from source, bringing a compiler where that may be done, and leaves alone what is kept.
pub fn fresh() -> Result<Fresh> {
    if Toolchain::find().is_err() {
        setup::install(PACKAGES);
    }
    let toolchain = match Toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(error) => return Ok(Fresh::NoCompiler(error.to_string())),
    };
    let object = build(&toolchain)?;
    if fs::read(kept())? == object {
        return Ok(Fresh::Same);
    }
    let place = shell::target().join("ebpf/fresh.o");
    fs::write(&place, object)?;
    Ok(Fresh::Other(fs::canonicalize(place)?))
}

fn build(toolchain: &Toolchain) -> Result<Vec<u8>> {
    println!("toolchain: {}", toolchain.name);
    let linker = linker()?;
    let built = shell::target().join("ebpf").join(TARGET).join("release/dynomite-ebpf");
    let mut command = toolchain.cargo();
    command.args(["build", "--release", "--target", TARGET, "--target-dir"]).arg(shell::target().join("ebpf"));
    command.args(&toolchain.args).current_dir(shell::root().join("dynomite-ebpf"));
    command.env("CARGO_ENCODED_RUSTFLAGS", flags(&linker)?.join("\x1f"));
    shell::run(&mut command)?;
    strip(&fs::read(&built).with_context(|| built.display().to_string())?)
}

fn check() -> Result<()> {
    let kept = fs::read_to_string(kept_hash()).with_context(|| kept_hash().display().to_string())?;
    if kept.trim() != hash_of_sources()? {
        bail!("the kept kernel object was built from other sources: run `cargo xtask ebpf` and commit what it writes");
    }
    println!("the kept kernel object was built from these sources");
    Ok(())
}

fn kept() -> PathBuf {
    shell::root().join("dynomite-ebpf/prebuilt/dynomite-ebpf.o")
}

fn kept_hash() -> PathBuf {
    shell::root().join("dynomite-ebpf/prebuilt/sources.hash")
}

/// A compiler that has a `core` for the target, or can build one.
struct Toolchain {
    name: &'static str,
    /// Set as RUSTC, or a name for rustup.
    rustc: Option<PathBuf>,
    args: Vec<&'static str>,
}

impl Toolchain {
    fn find() -> Result<Toolchain> {
        let sysroot = |command: &mut Command| {
            let output = command.args(["--print", "sysroot"]).output().ok().filter(|output| output.status.success())?;
            Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
        };
        if let Some(place) = sysroot(shell::program("rustup").args(["run", "nightly", "rustc"]))
            && place.join("lib/rustlib/src/rust/library/core").is_dir()
        {
            let args = vec!["-Zbuild-std=core"];
            return Ok(Toolchain { name: "rustup's nightly with rust-src", rustc: None, args });
        }
        let packaged = PathBuf::from("/usr/bin/rustc");
        if let Some(place) = sysroot(&mut Command::new(&packaged))
            && place.join("lib/rustlib").join(TARGET).is_dir()
        {
            return Ok(Toolchain {
                name: "the distribution's, with its prebuilt core",
                rustc: Some(packaged),
                args: vec![],
            });
        }
        bail!(
            "no compiler for {TARGET}. Either\n    rustup toolchain install nightly --component rust-src\nor, on Debian,\n    \
             sudo apt-get install {}",
            PACKAGES.join(" ")
        )
    }

    fn cargo(&self) -> Command {
        match &self.rustc {
            Some(rustc) => {
                let mut command = shell::cargo();
                // The target and inline assembly for it are unstable; the distribution's compiler has no nightly.
                command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
                command
            }
            None => {
                let mut command = shell::program("rustup");
                command.args(["run", "nightly", "cargo"]).env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
                command
            }
        }
    }
}

/// What the linker and the type information need; and no paths of this machine in the object.
fn flags(linker: &Path) -> Result<Vec<String>> {
    let registry = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let registry = registry.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).context("no home")?;
    Ok(vec![
        format!("-Clinker={}", linker.display()),
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        "--cfg=bpf_target_arch=\"x86_64\"".into(),
        format!("--remap-path-prefix={}=.", shell::root().display()),
        format!("--remap-path-prefix={}=cargo", registry.display()),
    ])
}

fn linker() -> Result<PathBuf> {
    let tools = shell::target().join("tools");
    let linker = tools.join("bin/bpf-linker");
    let is_there = Command::new(&linker).arg("--version").output();
    if is_there.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(LINKER_VERSION)) {
        return Ok(linker);
    }
    let mut command = shell::cargo();
    command.args(["install", "bpf-linker", "--locked", "--force", "--version", LINKER_VERSION, "--root"]).arg(&tools);
    shell::run(&mut command)?;
    Ok(linker)
}

/// Without what only a debugger reads: nine tenths of the object.
fn strip(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object)?;
    let is_debug = |name: &[u8]| name.starts_with(b".debug_");
    let debug: Vec<_> =
        builder.sections.iter().filter(|section| is_debug(&section.name)).map(|section| section.id()).collect();
    for section in &mut builder.sections {
        let about = section.sh_info_section;
        if debug.contains(&section.id())
            || (matches!(section.data, SectionData::Relocation(_)) && about.is_some_and(|about| debug.contains(&about)))
        {
            section.delete = true;
        }
    }
    builder.delete_orphans();
    // The linker keeps names of sections and symbols in one table; the writer wants two.
    let names = builder.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(stripped)
}

/// FNV-1a, 64 bits, over names and contents of all that goes into the object.
fn hash_of_sources() -> Result<String> {
    let mut files = Vec::new();
    for part in ["dynomite-common", "dynomite-ebpf"] {
        let part = shell::root().join(part);
        files
            .extend(["Cargo.toml", "Cargo.lock"].map(|name| part.join(name)).into_iter().filter(|file| file.is_file()));
        for entry in fs::read_dir(part.join("src"))? {
            files.push(entry?.path());
        }
    }
    files.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for file in &files {
        let name = file.strip_prefix(shell::root())?.display().to_string();
        for byte in name.into_bytes().into_iter().chain([0]).chain(fs::read(file)?) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    Ok(format!("{hash:016x}"))
}

#[cfg(test)]
mod tests {
    /// The daemon embeds what is kept.
    #[test]
    fn the_kept_object_was_built_from_these_sources() {
        super::check().unwrap();
    }
}
