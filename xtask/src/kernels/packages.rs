//! A kernel's package: found, downloaded, unpacked. Kept below `target/kernels`, so the network is asked once.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Kernel;
use crate::shell;

/// What a package unpacked to.
pub struct Files {
    pub vmlinuz: PathBuf,
    /// `lib/modules/<release>`.
    pub modules: PathBuf,
}

pub fn unpack(kernel: &Kernel, place: &Path) -> Result<Files> {
    if let Ok(files) = files(place) {
        return Ok(files);
    }
    fs::create_dir_all(place)?;
    let apt = Apt::new(kernel.release, place)?;
    let package = newest(&apt.names(kernel.package)?, kernel.package).context("no such package at the mirrors")?;
    shell::run(apt.command("apt-get").args(["download", &package]).current_dir(place))?;
    let found = entries(place)?.into_iter().find(|file| file.extension() == Some(OsStr::new("deb")));
    let deb = found.context("apt-get brought nothing")?;
    shell::run(Command::new("dpkg").arg("-x").arg(&deb).arg(place))?;
    fs::remove_file(deb)?;
    files(place)
}

fn files(place: &Path) -> Result<Files> {
    let first = |place: &Path, prefix: &str| {
        let files = entries(place)?;
        let is_so = |file: &PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
        files.into_iter().find(is_so).with_context(|| format!("no {prefix}… in {}", place.display()))
    };
    Ok(Files { vmlinuz: first(&place.join("boot"), "vmlinuz-")?, modules: first(&place.join("lib/modules"), "")? })
}

fn entries(place: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(place)?.map(|entry| Ok(entry?.path())).collect()
}

/// The highest version among package names with this prefix.
fn newest(names: &[String], prefix: &str) -> Option<String> {
    let version = |name: &str| -> Option<u32> {
        let rest = name.strip_prefix(prefix)?.strip_suffix("-cloud-amd64")?;
        rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
    };
    names.iter().filter(|name| version(name).is_some()).max_by_key(|name| version(name)).cloned()
}

/// apt, with this machine's mirrors, and lists of its own when the release is another one.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(release: Option<&str>, place: &Path) -> Result<Apt> {
        let Some(release) = release else {
            return Ok(Apt { options: Vec::new() });
        };
        let place = fs::canonicalize(place)?.join("apt");
        fs::create_dir_all(place.join("lists/partial"))?;
        fs::create_dir_all(place.join("cache/archives/partial"))?;
        let list = place.join("sources.list");
        let mirror = mirror().context("no mirror of this machine's own release is configured")?;
        let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
        fs::write(&list, format!("deb [signed-by={keys}] {mirror} {release} main\n"))?;
        let path = |name: &str, path: &Path| format!("{name}={}", path.display());
        let apt = Apt {
            options: vec![
                path("Dir::Etc::sourcelist", &list),
                "Dir::Etc::sourceparts=-".into(),
                path("Dir::State::lists", &place.join("lists")),
                path("Dir::Cache", &place.join("cache")),
            ],
        };
        shell::run(apt.command("apt-get").args(["-qq", "update"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = shell::program(program);
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }

    fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let output = self.command("apt-cache").args(["pkgnames", prefix]).output()?;
        if !output.status.success() {
            bail!("apt-cache: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
    }
}

/// Where this machine's own release comes from.
fn mirror() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let codename =
        release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?.trim_matches('"').to_owned();
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    files.extend(entries(Path::new("/etc/apt/sources.list.d")).unwrap_or_default());
    files.sort();
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).find_map(|text| mirror_in(&text, &codename))
}

/// In one file of sources, of either style.
fn mirror_in(text: &str, codename: &str) -> Option<String> {
    for line in text.lines() {
        let words: Vec<_> =
            line.split_whitespace().filter(|word| !word.starts_with('[') && !word.ends_with(']')).collect();
        if let ["deb", mirror, suite, ..] = words[..]
            && suite == codename
        {
            return Some(mirror.to_owned());
        }
    }
    for part in text.split("\n\n") {
        let field = |name: &str| {
            part.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(|value| value.split_whitespace().collect::<Vec<_>>())
        };
        if let (Some(mirrors), Some(suites)) = (field("URIs:"), field("Suites:"))
            && suites.contains(&codename)
        {
            return mirrors.first().map(|&mirror| mirror.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_taken_by_number() {
        let names = |list: &[&str]| list.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let list = names(&[
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-10-cloud-amd64",
            "linux-image-6.1.0-11-amd64",
        ]);
        assert_eq!(newest(&list, "linux-image-6.1.0-").as_deref(), Some("linux-image-6.1.0-10-cloud-amd64"));
        let list = names(&[
            "linux-image-6.12.9+deb12-cloud-amd64",
            "linux-image-6.12.38+deb12-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
        ]);
        assert_eq!(newest(&list, "linux-image-6.12.").as_deref(), Some("linux-image-6.12.38+deb12-cloud-amd64"));
        assert_eq!(newest(&[], "linux-image-6.12."), None);
    }

    #[test]
    fn mirrors_are_found_in_both_styles() {
        let old = "# comment\ndeb-src proto://a/debian sid main\ndeb [signed-by=/k.gpg] proto://a/debian sid main\n";
        assert_eq!(mirror_in(old, "sid").as_deref(), Some("proto://a/debian"));
        let new = "Types: deb\nURIs: proto://s/security\nSuites: sid-security\n\nTypes: deb\nURIs: proto://b/debian\nSuites: sid sid-updates\n";
        assert_eq!(mirror_in(new, "sid").as_deref(), Some("proto://b/debian"));
        assert_eq!(mirror_in(new, "woody"), None);
    }
}
