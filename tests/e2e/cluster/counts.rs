//! What is counted of each peer, and what `/metrics` says of a cluster.

use dynomite_tests::{Cluster, Shape, Value, address, exposition, until};

/// What one member of a cluster counts of another.
fn of(cluster: &Cluster, member: usize, peer: usize, name: &str) -> u64 {
    let address = cluster.members[peer].place.host.port(address::PEER_PORT);
    cluster.members[member].node.stat(&format!("{name}_{address}"))
}

#[test]
fn each_peer_is_counted_by_itself() {
    let Some(mut cluster) = Cluster::start(Shape::embedded(1, 3, 1).line("timeout: 3000")) else { return };
    let mut client = cluster.client(0);
    let mut write = |count: usize| (0..count).for_each(|_| assert_eq!(client.ask("SET k v"), Value::ok()));
    write(100);
    for peer in [1, 2] {
        until("all is answered", || of(&cluster, 0, peer, "replies") == 100);
        let names = ["requests", "errors", "timeouts", "missed_writes", "in_queue", "out_queue"];
        assert_eq!(names.map(|name| of(&cluster, 0, peer, name)), [100, 0, 0, 0, 0, 0]);
        let latency = ["latency_mean", "latency_max"].map(|name| of(&cluster, 0, peer, name));
        assert!(latency[0] > 0 && latency[0] <= latency[1] * 2 && latency[1] < 60_000_000, "{latency:?}");
    }
    cluster.members[2].node.kill();
    until("it is known to be away", || of(&cluster, 0, 2, "reachable") == 0);
    write(30);
    until("all is answered", || of(&cluster, 0, 1, "replies") == 130);
    let names = ["requests", "replies", "errors", "missed_writes"];
    assert_eq!(names.map(|name| of(&cluster, 0, 2, name)), [130, 100, 30, 30]);
    assert_eq!(cluster.members[0].node.stat("writes_missed"), 30);
    cluster.members[1].node.process().pause();
    write(5);
    until("nobody waits for it any more", || of(&cluster, 0, 1, "missed_writes") == 5);
    cluster.members[1].node.process().resume();
}

#[test]
fn scrapers_can_read_what_a_cluster_says() {
    let Some(cluster) = Cluster::start(Shape::embedded(2, 2, 1)) else { return };
    cluster.client(0).ask("SET k v");
    let metrics = cluster.members[0].node.get("/metrics");
    let samples = exposition::samples(&metrics);
    for (number, member) in cluster.members.iter().enumerate().skip(1) {
        let (host, datacenter, rack) = (member.place.host.port(address::PEER_PORT), number / 2, number % 2);
        let labels = format!("peer=\"{host}\",peer_datacenter=\"dc{datacenter}\",peer_rack=\"rack{rack}\"}}");
        let of = |name: &str| {
            let names = |series: &str| series.starts_with(&format!("dynomite_{name}{{")) && series.ends_with(&labels);
            samples.iter().find(|(series, _)| names(series)).unwrap_or_else(|| panic!("{name} {labels}\n{metrics}")).1
        };
        assert_eq!((*of("peers_reachable"), *of("peers_links")), (1.0, 2.0));
        for name in
            ["peers_requests_total", "peers_timeouts_total", "peers_latency_microseconds_sum", "peers_latency_max"]
        {
            of(name);
        }
    }
}
