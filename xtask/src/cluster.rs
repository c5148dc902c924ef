//! `cargo xtask cluster 2dc×3racks×1`: a whole cluster on loopback addresses, to be talked to through any node. Ctrl-C ends all of it.

use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::children::{Children, Woken};
use crate::pool::Place;
use crate::run::{redis, until_it_answers};
use crate::{build, shell};

#[derive(clap::Args)]
pub struct Args {
    /// Datacenters × racks in each × nodes in each rack
    #[arg(default_value = "2dc×3racks×1")]
    shape: Shape,
    /// A redis-server for each node, in place of the nodes' embedded datastores
    #[arg(long)]
    datastores: bool,
    /// A further line of every node's configuration, e.g. `--line "read_consistency: dc_quorum"`
    #[arg(long)]
    line: Vec<String>,
    /// Build with debug assertions
    #[arg(long)]
    debug: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    datacenters: usize,
    racks: usize,
    nodes: usize,
}

impl FromStr for Shape {
    type Err = anyhow::Error;

    /// Three numbers with anything that is no digit between and behind them.
    fn from_str(text: &str) -> Result<Shape> {
        let numbers: Vec<usize> =
            text.split(|letter: char| !letter.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect();
        let [datacenters, racks, nodes] = numbers[..] else {
            bail!("say datacenters × racks × nodes, such as 2dc×3racks×1")
        };
        if [datacenters, racks, nodes].contains(&0) || datacenters * racks * nodes > 64 || racks > 9 || nodes > 20 {
            bail!("between 1 and 64 nodes, in at most 9 racks of 20 nodes");
        }
        Ok(Shape { datacenters, racks, nodes })
    }
}

/// One node of the cluster.
struct Member {
    name: String,
    datacenter: String,
    rack: String,
    host: String,
    token: u32,
}

impl Shape {
    fn members(self) -> Vec<Member> {
        let mut members = Vec::new();
        for datacenter in 1..=self.datacenters {
            for rack in 1..=self.racks {
                for node in 1..=self.nodes {
                    members.push(Member {
                        name: format!("dc{datacenter}-rack{rack}-{node}"),
                        datacenter: format!("dc{datacenter}"),
                        rack: format!("rack{rack}"),
                        host: format!("127.0.{}.{}", datacenter, rack * 20 + node),
                        token: ((node as u64) * (1 << 32) / self.nodes as u64 - 1) as u32,
                    });
                }
            }
        }
        members
    }
}

impl Member {
    fn place(&self, port: u16) -> Place {
        Place::Tcp(self.host.clone(), port)
    }

    fn yaml(&self, all: &[Member], lines: &[String]) -> String {
        let host = &self.host;
        let mut yaml = format!(
            "# {}, of `cargo xtask cluster`.\ndyn_o_mite:\n  datacenter: {}\n  rack: {}\n  tokens: {}\n  listen: {host}:8102\n  dyn_listen: {host}:8101\n  \
             stats_listen: {host}:22222\n  servers:\n  - {host}:22122:1\n",
            self.name, self.datacenter, self.rack, self.token
        );
        lines.iter().for_each(|line| yaml.push_str(&format!("  {line}\n")));
        if all.len() > 1 {
            yaml.push_str("  dyn_seeds:\n");
        }
        for other in all.iter().filter(|other| other.name != self.name) {
            yaml.push_str(&format!("  - {}:8101:{}:{}:{}\n", other.host, other.rack, other.datacenter, other.token));
        }
        yaml
    }
}

pub fn run(args: Args) -> Result<()> {
    let binary = build::daemon(if args.debug { "dev" } else { "quick" })?;
    let redis_server = match args.datastores {
        true => Some(
            shell::find("redis-server").or_else(|| shell::find("valkey-server")).context("no redis-server on PATH")?,
        ),
        false => None,
    };
    let members = args.shape.members();
    if let Some(taken) = members.iter().find(|member| member.place(8102).answers()) {
        bail!("something listens at {} already", taken.place(8102));
    }
    let directory = shell::target().join("cluster");
    fs::create_dir_all(&directory)?;
    let mut children = Children::new()?;
    if let Some(program) = &redis_server {
        for member in &members {
            children
                .start_quietly(&format!("the datastore of {}", member.name), &redis(program, &member.place(22122))?)?;
        }
    }
    for member in &members {
        let conf: PathBuf = directory.join(format!("{}.yml", member.name));
        fs::write(&conf, member.yaml(&members, &args.line))?;
        let mut node = shell::program(&binary.to_string_lossy());
        node.arg("--conf-file").arg(&conf).arg("--output").arg(directory.join(format!("{}.log", member.name)));
        if redis_server.is_none() {
            node.arg("--embedded-datastore");
        }
        children.start(&member.name, &node)?;
    }
    for member in &members {
        until_it_answers(&member.place(8102), &mut children)?;
    }
    greet(&members, &directory);
    match children.wait()? {
        Woken::Asked => {
            eprintln!("\nstopping");
            Ok(())
        }
        Woken::Ended(name, status) => bail!("{name} ended by itself ({status}); its log is in {}", directory.display()),
    }
}

fn greet(members: &[Member], directory: &std::path::Path) {
    println!("\n{:<16} {:<6} {:<7} {:>10}  {:<20} {:<20}", "node", "dc", "rack", "token", "clients", "stats");
    for member in members {
        let (clients, stats) = (member.place(8102).to_string(), member.place(22222).to_string());
        println!(
            "{:<16} {:<6} {:<7} {:>10}  {clients:<20} {stats:<20}",
            member.name, member.datacenter, member.rack, member.token
        );
    }
    let (first, last) = (&members[0].host, &members[members.len() - 1].host);
    println!("\nEvery rack has a full copy. Any node takes any request:\n");
    println!("  redis-cli -h {first} -p 8102 set greeting hello");
    println!("  redis-cli -h {last} -p 8102 get greeting");
    println!(
        "  curl http://{first}:22222/cluster_describe\n\nConfigurations and logs: {}. Ctrl-C ends all of it.\n",
        directory.display()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(usize, usize, usize)>) {
        let shape = text.parse::<Shape>().ok().map(|shape| (shape.datacenters, shape.racks, shape.nodes));
        assert_eq!(shape, expected, "{text}");
    }

    #[test]
    fn shapes() {
        check("2dc×3racks×1", Some((2, 3, 1)));
        check("1x1x4", Some((1, 1, 4)));
        check("2dc 2racks 2nodes", Some((2, 2, 2)));
        check("2x3", None);
        check("0x1x1", None);
        check("9x9x9", None);
    }

    #[test]
    fn racks_are_cut_into_equal_ranges() {
        let members = Shape { datacenters: 2, racks: 1, nodes: 2 }.members();
        let tokens: Vec<u32> = members.iter().map(|member| member.token).collect();
        assert_eq!(tokens, [0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff, 0xffff_ffff]);
        let yaml = members[0].yaml(&members, &["read_consistency: dc_quorum".into()]);
        assert!(yaml.contains("  - 127.0.2.21:8101:rack1:dc2:2147483647\n"), "{yaml}");
        assert!(!yaml.contains(&format!("- {}:8101", members[0].host)), "{yaml}");
    }
}
