//! `cargo xtask run`: one node in front of one datastore, to be talked to at once. Ctrl-C ends everything that it started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::children::{Children, Woken};
use crate::pool::{Place, Pool};
use crate::{build, shell};

/// How long a program may take until it answers at its port.
const START_LIMIT: Duration = Duration::from_secs(20);

#[derive(clap::Args)]
pub struct Args {
    /// The node's configuration
    #[arg(long, default_value = "conf/dynomite.yml")]
    conf: PathBuf,
    /// Build with debug assertions
    #[arg(long)]
    debug: bool,
    /// Build as it is shipped: slower to build, a little faster to run
    #[arg(long, conflicts_with = "debug")]
    release: bool,
    /// Use the node's embedded datastore, whatever else there is
    #[arg(long)]
    embedded_datastore: bool,
    /// Further options for the node, behind `--`
    #[arg(last = true)]
    rest: Vec<String>,
}

pub fn run(args: Args) -> Result<()> {
    let binary = build::daemon(match (args.debug, args.release) {
        (true, _) => "dev",
        (_, true) => "release",
        _ => "quick",
    })?;
    let pool = Pool::read(&shell::root().join(&args.conf))?;
    if pool.listen.answers() {
        bail!("something listens at {} already", pool.listen);
    }
    let mut children = Children::new()?;
    let datastore = if args.embedded_datastore { Datastore::Embedded } else { datastore(&pool, &mut children)? };

    let mut node = shell::program(&binary.to_string_lossy());
    node.arg("--conf-file").arg(&args.conf).args(&args.rest);
    if matches!(datastore, Datastore::Embedded) {
        node.arg("--embedded-datastore");
    }
    children.start("the node", &node)?;
    until_it_answers(&pool.listen, &mut children)?;
    greet(&args.conf, &pool, &datastore);

    match children.wait()? {
        Woken::Asked => {
            eprintln!("\nstopping");
            Ok(())
        }
        Woken::Ended(name, status) => bail!("{name} ended by itself ({status})"),
    }
}

/// Who answers behind the node.
enum Datastore {
    WasThere,
    NotThere,
    Started(&'static str),
    Embedded,
}

fn datastore(pool: &Pool, children: &mut Children) -> Result<Datastore> {
    if pool.datastore.answers() {
        return Ok(Datastore::WasThere);
    }
    if !pool.datastore.is_local() {
        return Ok(Datastore::NotThere);
    }
    let candidates: &[&str] = if pool.memcache { &["memcached"] } else { &["redis-server", "valkey-server"] };
    let Some((name, program)) = candidates.iter().find_map(|name| Some((*name, shell::find(name)?))) else {
        return Ok(Datastore::Embedded);
    };
    let mut command =
        if pool.memcache { memcached(&program, &pool.datastore) } else { redis(&program, &pool.datastore)? };
    if let Some(password) = &pool.password {
        command.args(["--requirepass", password]);
    }
    children.start_quietly(name, &command)?;
    until_it_answers(&pool.datastore, children)?;
    Ok(Datastore::Started(name))
}

pub fn redis(program: &Path, place: &Place) -> Result<Command> {
    let directory = shell::target().join("run");
    fs::create_dir_all(&directory)?;
    let mut command = shell::program(&program.to_string_lossy());
    // Nothing is kept: this datastore is for trying out, and it must not touch somebody's dump file.
    command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(directory);
    match place {
        Place::Tcp(host, port) => command.args(["--bind", host, "--port", &port.to_string()]),
        Place::Unix(path) => command.args(["--port", "0", "--unixsocket", path]),
    };
    Ok(command)
}

fn memcached(program: &Path, place: &Place) -> Command {
    let mut command = shell::program(&program.to_string_lossy());
    // As root it asks for a user to become. Another than root would no longer end with us (PR_SET_PDEATHSIG is forgotten).
    command.args(["-u", "root", "-U", "0"]);
    match place {
        Place::Tcp(host, port) => command.args(["-l", host, "-p", &port.to_string()]),
        Place::Unix(path) => command.args(["-s", path]),
    };
    command
}

pub fn until_it_answers(place: &Place, children: &mut Children) -> Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    while !place.answers() {
        if let Some(Woken::Ended(name, status)) = children.ended()? {
            bail!("{name} ended at once ({status})");
        }
        if Instant::now() > deadline {
            bail!("nothing answers at {place} after {START_LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn greet(conf: &Path, pool: &Pool, datastore: &Datastore) {
    let behind = match datastore {
        Datastore::WasThere => format!("the datastore at {}", pool.datastore),
        Datastore::NotThere => format!("nothing yet: {} does not answer; the node keeps trying", pool.datastore),
        Datastore::Started(name) => format!("{name}, started at {} for now; nothing is kept", pool.datastore),
        Datastore::Embedded => "its embedded datastore: in memory, for trying out and for tests".to_string(),
    };
    let (host, port) = pool.listen.to_reach();
    let (stats_host, stats_port) = pool.stats.to_reach();
    let password = pool.password.as_ref().map(|password| format!(" -a '{password}'")).unwrap_or_default();
    println!("\nDynomite listens at {} ({}), in front of {behind}.\n", pool.listen, conf.display());
    match (&pool.listen, pool.memcache) {
        (Place::Unix(path), false) => println!("  redis-cli -s {path}{password} set greeting hello"),
        (Place::Unix(path), true) => println!("  printf 'version\\r\\n' | nc -U {path}"),
        (_, false) if shell::find("redis-cli").is_some() => {
            println!("  redis-cli -h {host} -p {port}{password} set greeting hello");
            println!("  redis-cli -h {host} -p {port}{password} get greeting");
        }
        // bash alone: not everybody has netcat.
        (_, false) => talk(&host, port, "PING\\r\\nSET greeting hello\\r\\nGET greeting\\r\\nQUIT"),
        (_, true) => talk(&host, port, "set greeting 0 0 5\\r\\nhello\\r\\nget greeting\\r\\nquit"),
    }
    println!("  curl http://{stats_host}:{stats_port}/info\n\nCtrl-C ends it.\n");
}

fn talk(host: &str, port: u16, say: &str) {
    println!("  bash -c 'exec 3<>/dev/tcp/{host}/{port}; printf \"{say}\\r\\n\" >&3; cat <&3'");
}
