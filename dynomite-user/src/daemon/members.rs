//! The configuration's nodes, as the ring and the stats port want them.
//! Owns: what this node is called. A pure mapping, but for the environment variables that name it.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::{Config, Problem};
use crate::control::{ClusterView, NodeView};
use crate::ring::topology::{Node, Topology};

/// One name; a resolver that is away must not keep the others waiting for long.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(5);

/// The cluster as the file knows it.
pub fn topology(config: &Config) -> Result<Topology, Vec<Problem>> {
    let seeds = config.seeds.iter().map(|seed| {
        let same_datacenter = seed.datacenter == config.datacenter;
        Node {
            name: seed.name.clone(),
            host: seed.host.clone(),
            port: seed.port,
            datacenter: seed.datacenter.clone(),
            rack: seed.rack.clone(),
            tokens: seed.tokens.clone(),
            secured: config.secure.covers(same_datacenter, seed.rack == config.rack),
        }
    });
    Topology::build(own(config), seeds.collect())
        .map_err(|problems| problems.iter().map(|problem| Problem::of_file(problem.to_string())).collect())
}

/// This node.
pub fn own(config: &Config) -> Node {
    Node {
        name: config.dyn_listen.host.clone(),
        host: config.dyn_listen.host.clone(),
        port: config.dyn_listen.port,
        datacenter: config.datacenter.clone(),
        rack: config.rack.clone(),
        tokens: config.tokens.clone(),
        secured: false,
    }
}

/// What this node tells others to call it: its public name, or the host it listens at.
pub fn broadcast_name(config: &Config) -> String {
    public(config, "PUBLIC_HOSTNAME").unwrap_or_else(|| config.dyn_listen.host.clone())
}

fn public(config: &Config, what: &str) -> Option<String> {
    std::env::var(config.environment.variable(what)).ok().filter(|text| !text.is_empty())
}

/// What `/cluster_describe` shows until gossip knows more. A seed's name is its host; whoever resolves it may do better.
pub fn view(config: &Config) -> ClusterView {
    let mut view = ClusterView::default();
    view.add(&config.datacenter, &config.rack, own_view(config));
    for seed in &config.seeds {
        let node = NodeView {
            name: seed.host.clone(),
            host: seed.host.clone(),
            port: seed.port,
            token: seed.tokens.first().map_or(0, |token| token.0),
        };
        view.add(&seed.datacenter, &seed.rack, node);
    }
    view
}

fn own_view(config: &Config) -> NodeView {
    let host = &config.dyn_listen.host;
    let is_number = host.starts_with(|c: char| c.is_ascii_digit());
    let name = public(config, "PUBLIC_IPV4");
    NodeView {
        name: name.unwrap_or_else(|| if is_number { host.clone() } else { broadcast_name(config) }),
        host: public(config, "PUBLIC_HOSTNAME").unwrap_or_else(|| host.clone()),
        port: config.dyn_listen.port,
        token: config.tokens.first().map_or(0, |token| token.0),
    }
}

/// The view with every name that is a host's replaced by its IPv4 address: what operators' tools compare. A host that
/// does not resolve in time keeps its name.
pub async fn with_addresses(mut view: ClusterView, config: &Config) -> ClusterView {
    let own = own_view(config);
    let nodes =
        view.datacenters.iter_mut().flat_map(|datacenter| &mut datacenter.racks).flat_map(|rack| &mut rack.nodes);
    for node in nodes.filter(|node| **node != own && node.name.parse::<IpAddr>().is_err()) {
        if let Some(address) = ip4(&node.name, node.port).await {
            node.name = address.to_string();
        }
    }
    view
}

async fn ip4(host: &str, port: u16) -> Option<IpAddr> {
    let addresses = tokio::time::timeout(LOOKUP_PATIENCE, tokio::net::lookup_host((host, port))).await.ok()?.ok()?;
    addresses.map(|address| address.ip()).find(IpAddr::is_ipv4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check;

    const FILE: &str = "p:\n  listen: 127.0.0.1:8102\n  dyn_listen: 127.0.0.1:8101\n  tokens: 7,9\n  datacenter: d1\n  \
                        rack: r1\n  servers: 127.0.0.1:22122:1\n  secure_server_option: datacenter\n  dyn_seeds:\n  \
                        - 127.0.0.2:8101:r2:d1:5\n  - 127.0.0.3:8101:r1:d2:6 third:8101\n";

    #[test]
    fn nodes_are_numbered_in_the_order_of_the_file() {
        let config = check(FILE).expect("valid").config;
        let topology = topology(&config).expect("a topology");
        let nodes: Vec<_> = topology.nodes().map(|(_, node)| (node.name.as_str(), node.secured)).collect();
        assert_eq!(nodes, [("127.0.0.1", false), ("127.0.0.2", false), ("third", true)]);
        assert_eq!(topology.own().tokens[0].0, 9);
    }

    #[test]
    fn the_view_starts_with_this_node() {
        let view = view(&check(FILE).expect("valid").config);
        assert_eq!((view.datacenters.len(), view.datacenters[0].racks.len()), (2, 2));
        let own = &view.datacenters[0].racks[0].nodes[0];
        assert_eq!((own.name.as_str(), own.port, own.token), ("127.0.0.1", 8101, 9));
    }

    #[test]
    fn names_become_addresses_where_they_can() {
        let text = FILE.replace("- 127.0.0.2:", "- localhost:");
        let config = check(&text).expect("valid").config;
        let view = view(&config);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let node = &runtime.block_on(with_addresses(view, &config)).datacenters[0].racks[1].nodes[0];
        assert_eq!((node.name.as_str(), node.host.as_str()), ("127.0.0.1", "localhost"));
    }
}
