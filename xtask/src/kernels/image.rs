//! The image that a kernel boots into: busybox, the daemon, the tests, datastores, and what they link to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::packages::Files;
use crate::shell;

/// Modules that the tests need and these kernels do not have built in, in the order in which they are loaded.
const MODULES: &[&str] = &["veth", "8021q"];

/// Programs of this machine that the tests call.
const PROGRAMS: &[&str] = &["redis-server", "memcached", "ip", "setpriv", "unshare", "nsenter", "prlimit"];

pub fn write(to: &Path, files: &Files, daemon: &Path, tests: &Path, names: &[String], seconds: u64) -> Result<()> {
    let scratch = tempfile_beside(to);
    let mut image = Image::default();
    for directory in ["proc", "sys", "dev", "tmp", "run", "var", "etc", "lib/modules"] {
        image.directory(directory);
    }
    image.file("bin/busybox", &shell::find("busybox").context("busybox")?, 0o755)?;
    image.program("bin/dynomite", &stripped(daemon, &scratch)?)?;
    image.program("bin/kernel-tests", &stripped(tests, &scratch)?)?;
    for name in PROGRAMS {
        if let Some(program) = shell::find(name) {
            image.program(&format!("bin/{name}"), &program)?;
        }
    }
    let mut modules = Vec::new();
    for name in MODULES {
        for module in module_and_needs(&files.modules, name)? {
            let file_name = module.file_name().context("a module has a name")?.to_string_lossy().into_owned();
            if !modules.contains(&file_name) {
                image.file(&format!("lib/modules/{file_name}"), &module, 0o644)?;
                modules.push(file_name);
            }
        }
    }
    image.text("etc/passwd", "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n", 0o644);
    image.text("etc/group", "root:x:0:\nnogroup:x:65534:\n", 0o644);
    image.text("init", &init(&modules, names, seconds), 0o755);
    fs::write(to, image.archive())?;
    fs::remove_dir_all(scratch)?;
    Ok(())
}

/// The first program: mounts what a Linux has, runs each test by itself, says how it ended, stops the machine.
fn init(modules: &[String], names: &[String], seconds: u64) -> String {
    let mut script = String::from(
        "#!/bin/busybox sh\n\
         /bin/busybox --install -s /bin\n\
         export PATH=/bin HOME=/tmp RUST_BACKTRACE=0\n\
         mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev\n\
         mkdir -p /dev/shm /sys/fs/cgroup; mount -t tmpfs tmp /tmp; mount -t tmpfs shm /dev/shm\n\
         mount -t securityfs security /sys/kernel/security; mount -t cgroup2 cgroup2 /sys/fs/cgroup; ip link set lo up; ulimit -n 65536\n\
         dmesg -n 3; echo \"KERNEL $(uname -r)\"\n",
    );
    for module in modules {
        script += &format!("insmod /lib/modules/{module} || echo \"no module {module}\"\n");
    }
    // busybox has an `ip` of its own that knows too little.
    script += "rm -f /tmp/x; export DYNOMITE_BINARY=/bin/dynomite DYNOMITE_SKIPS=/tmp/skips DYNOMITE_THROWN_AWAY=1 DYNOMITE_PATIENCE=4\n";
    // How long, and from which seed, as outside.
    for name in ["DYNOMITE_SECONDS", "DYNOMITE_SEED"] {
        if let Ok(number) = std::env::var(name).unwrap_or_default().parse::<u64>() {
            script += &format!("export {name}={number}\n");
        }
    }
    // As on the host, what failed runs once more: an emulated machine stands still when its host is busy.
    script += &format!(
        "once() {{ rm -f /tmp/skips; s=$(date +%s); timeout {seconds} /bin/kernel-tests --exact $1 --nocapture </dev/null; \
         code=$?; s=$(( $(date +%s) - s )); }}\n\
         run() {{ once $1; ok=ok; if [ $code != 0 ]; then echo \"once more: $1\"; once $1; ok='ok at the second try'; fi; \
         if [ $code != 0 ]; then echo \"RESULT $1 FAILED ($code, $s s)\"; \
         elif [ -s /tmp/skips ]; then echo \"RESULT $1 SKIPPED $(head -n 1 /tmp/skips)\"; \
         else echo \"RESULT $1 $ok ($s s)\"; fi; }}\n"
    );
    names.iter().for_each(|name| script += &format!("run {name}\n"));
    script + "dmesg | grep -E 'WARN|BUG|Call Trace' && dmesg | tail -n 60\nsync; reboot -f\n"
}

/// A module's file, after those of the modules it needs.
fn module_and_needs(modules: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let builtin = fs::read_to_string(modules.join("modules.builtin")).unwrap_or_default();
    if builtin.lines().any(|line| line.contains(&format!("/{name}.ko"))) {
        return Ok(Vec::new());
    }
    // A package that is only unpacked has no modules.dep; what a module needs stands in its own section of words.
    let kernel = modules.join("kernel");
    let plain = format!("{name}.ko");
    // Newer packages have them compressed, which `insmod` does not take.
    if let (None, Some(packed)) = (find(&kernel, &plain)?, find(&kernel, &format!("{plain}.xz"))?) {
        shell::run(Command::new("xz").args(["--decompress", "--keep"]).arg(packed))?;
    }
    let Some(file) = find(&kernel, &plain)? else { return Ok(Vec::new()) };
    let bytes = fs::read(&file)?;
    let mut all = Vec::new();
    let start = b"\0depends=";
    if let Some(at) = bytes.windows(start.len()).position(|window| window == start) {
        let words = &bytes[at + start.len()..];
        let words = String::from_utf8_lossy(words.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned();
        for need in words.split(',').filter(|need| !need.is_empty()) {
            all.extend(module_and_needs(modules, need)?);
        }
    }
    all.push(file);
    Ok(all)
}

fn find(place: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(place)? {
        let path = entry?.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name)? {
                return Ok(Some(found));
            }
        } else if path
            .file_name()
            .is_some_and(|file| file.to_string_lossy().replace('-', "_") == name.replace('-', "_"))
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn tempfile_beside(to: &Path) -> PathBuf {
    let scratch = to.with_extension("scratch");
    let _ = fs::remove_dir_all(&scratch);
    scratch
}

/// Without what only a debugger reads: the image is held in memory.
fn stripped(program: &Path, scratch: &Path) -> Result<PathBuf> {
    fs::create_dir_all(scratch)?;
    let to = scratch.join(program.file_name().context("a program has a name")?);
    shell::run(Command::new("strip").arg("-o").arg(&to).arg(program))?;
    Ok(to)
}

/// Files by their place in the image.
#[derive(Default)]
struct Image {
    files: BTreeMap<String, (u32, Vec<u8>)>,
}

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;

impl Image {
    fn directory(&mut self, at: &str) {
        let mut parents = BTreeSet::new();
        let mut path = String::new();
        for part in at.split('/').filter(|part| !part.is_empty()) {
            path = if path.is_empty() { part.to_owned() } else { format!("{path}/{part}") };
            parents.insert(path.clone());
        }
        for path in parents {
            self.files.entry(path).or_insert((DIRECTORY | 0o755, Vec::new()));
        }
    }

    fn put(&mut self, at: &str, mode: u32, bytes: Vec<u8>) {
        let at = at.trim_start_matches('/');
        if let Some((directory, _)) = at.rsplit_once('/') {
            self.directory(directory);
        }
        self.files.insert(at.to_owned(), (FILE | mode, bytes));
    }

    fn text(&mut self, at: &str, text: &str, mode: u32) {
        self.put(at, mode, text.as_bytes().to_vec());
    }

    fn file(&mut self, at: &str, from: &Path, mode: u32) -> Result<()> {
        self.put(at, mode, fs::read(from).with_context(|| from.display().to_string())?);
        Ok(())
    }

    /// A program and the libraries that it is linked to, where it looks for them.
    fn program(&mut self, at: &str, from: &Path) -> Result<()> {
        self.file(at, from, 0o755)?;
        let output = Command::new("ldd").arg(from).output().context("ldd")?;
        let libraries = String::from_utf8_lossy(&output.stdout).into_owned();
        for word in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            self.file(word, Path::new(word), 0o755)?;
        }
        Ok(())
    }

    /// As the kernel unpacks it: a cpio archive of the "new" kind.
    fn archive(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut number = 1;
        let mut entry = |name: &[u8], mode: u32, bytes: &[u8], out: &mut Vec<u8>| {
            number += 1;
            let fields = [number, mode, 0, 0, 1, 0, bytes.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
            out.extend_from_slice(b"070701");
            for field in fields {
                out.extend_from_slice(format!("{field:08x}").as_bytes());
            }
            out.extend_from_slice(name);
            out.push(0);
            out.resize(out.len().next_multiple_of(4), 0);
            out.extend_from_slice(bytes);
            out.resize(out.len().next_multiple_of(4), 0);
        };
        for (path, (mode, bytes)) in &self.files {
            entry(Path::new(path).as_os_str().as_bytes(), *mode, bytes, &mut out);
        }
        entry(b"TRAILER!!!", 0, b"", &mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_heads_names_and_bytes_at_multiples_of_four() {
        let mut image = Image::default();
        image.text("a/b", "hello", 0o644);
        let archive = image.archive();
        assert_eq!(image.files.keys().collect::<Vec<_>>(), ["a", "a/b"]);
        assert!(archive.len().is_multiple_of(4) && archive.starts_with(b"070701"));
        let at = archive.windows(5).position(|window| window == b"hello").unwrap();
        assert!(at.is_multiple_of(4));
    }
}
