//! Whole configurations: what they mean, what is wrong with them, and that the table, the reference and the samples agree.

use std::fs;
use std::path::{Path, PathBuf};

use super::options::{self, KERNEL, Kind, Row, Unset};
use super::*;

/// What every configuration must say, on four lines below the pool's name.
const NEEDED: &str =
    "p:\n  listen: 127.0.0.1:8102\n  dyn_listen: 127.0.0.1:8101\n  tokens: 7\n  servers: [127.0.0.1:22122:1]\n";

/// `keys` stand from line 6 on.
fn with(keys: &str) -> String {
    format!("{NEEDED}{}\n", keys.lines().map(|line| format!("  {line}\n")).collect::<String>())
}

fn config(keys: &str) -> Config {
    check(&with(keys)).unwrap_or_else(|problems| panic!("{keys}: {problems:?}")).config
}

fn refused(keys: &str, problems: &[&str]) {
    let found = check(&with(keys)).expect_err(keys);
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), problems, "{keys}");
}

fn warned(keys: &str, warnings: &[&str]) {
    let loaded = check(&with(keys)).unwrap_or_else(|problems| panic!("{keys}: {problems:?}"));
    assert_eq!(loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), warnings, "{keys}");
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = config("");
    assert_eq!((config.pool.as_str(), config.datacenter.as_str(), config.rack.as_str()), ("p", "localdc", "localrack"));
    assert_eq!(config.stats_listen.to_string(), "0.0.0.0:22222");
    assert_eq!((config.timeout, config.server_retry_timeout), (Duration::from_secs(5), Duration::from_secs(10)));
    assert_eq!((config.gossip_interval, config.enable_gossip), (Duration::from_secs(30), false));
    assert_eq!((config.backlog, config.server_failure_limit, config.mbuf_size), (512, 3, 16_384));
    assert_eq!((config.max_msgs, config.conn_msg_rate, config.client_connections), (200_000, 50_000, 0));
    assert_eq!(
        (config.datastore_connections, config.local_peer_connections, config.remote_peer_connections),
        (1, 1, 1)
    );
    assert!(config.preconnect && config.auto_eject_hosts && !config.read_repairs_enabled);
    assert_eq!((config.hash, config.hash_tag, config.secure), (HashKind::Murmur, None, Secure::None));
    assert_eq!((config.protocol, config.requirepass), (Protocol::Resp, None));
    assert_eq!((config.environment, config.seed_provider), (Environment::Aws, SeedProvider::Simple));
    assert_eq!(config.pem_key_file, Path::new("conf/dynomite.pem"));
    assert_eq!((config.read_consistency, config.write_consistency), (ConsistencyLevel::DcOne, ConsistencyLevel::DcOne));
    let largest = 512 << 20;
    assert!(config.request_bytes_max > largest && config.reply_bytes_max > largest);
    assert!(config.client_output_bytes_max > largest && config.datastore_queue_bytes_max > largest);
    assert_eq!(config.kernel, Kernel { flows_max: 1024, ..Kernel::default() });
}

#[test]
fn false_and_zero_are_what_they_say() {
    let config = config("preconnect: false\nauto_eject_hosts: false\nconn_msg_rate: 0\nclient_connections: 0");
    assert!(!config.preconnect && !config.auto_eject_hosts);
    assert_eq!((config.conn_msg_rate, config.client_connections), (0, 0));
    warned("timeout: 0", &["line 6: directive \"timeout\": 0 stands for the default, 5000"]);
    assert_eq!(self::config("timeout: 0").timeout, Duration::from_secs(5));
}

#[test]
fn keys_go_where_they_belong() {
    let config = config(
        "datacenter: dc1\nrack: r1\nhash: fnv1a_32\nhash_tag: \"{}\"\ndata_store: 1\ntimeout: 300\nenv: network\n\
         read_consistency : DC_SAFE_QUORUM\nwrite_consistency: dc_each_safe_quorum\nsecure_server_option: rack\n\
         dyn_seed_provider: florida_provider\nread_failover: datacenters\nworkers: 3\nclient_outstanding_max: 9\n\
         dyn_seeds:\n- 127.0.0.2:8101:r2:dc1:9\n- 127.0.0.3:8101:r1:dc2:7 third:8101\n\
         kernel:\n  mode: required\n  interface: [eth0, eth1]\n  xdp: generic\n  guard: enforce\n  \
         guard_syn_rate: 5\n  flows_max: 0\n  shortcut: true\n  cgroup: /c",
    );
    assert_eq!((config.datacenter.as_str(), config.rack.as_str()), ("dc1", "r1"));
    assert_eq!((config.hash, config.hash_tag), (HashKind::Fnv1a32, Some(HashTag { open: b'{', close: b'}' })));
    assert_eq!((config.protocol, config.timeout), (Protocol::Memcache, Duration::from_millis(300)));
    assert_eq!(
        (config.environment, config.environment.variable("PUBLIC_IPV4")),
        (Environment::Other, "PUBLIC_IPV4".into())
    );
    assert_eq!(config.read_consistency, ConsistencyLevel::DcSafeQuorum);
    assert_eq!(config.write_consistency, ConsistencyLevel::DcEachSafeQuorum);
    assert_eq!((config.secure, config.seed_provider), (Secure::Rack, SeedProvider::Florida));
    assert_eq!(
        (config.read_failover, config.workers, config.client_outstanding_max),
        (ReadFailover::Datacenters, 3, 9)
    );
    let seeds: Vec<_> = config.seeds.iter().map(|seed| (seed.name.as_str(), seed.tokens[0].0, seed.line)).collect();
    assert_eq!(seeds, [("127.0.0.2", 9, 21), ("third", 7, 22)]);
    let kernel = Kernel {
        mode: KernelMode::Required,
        interfaces: vec!["eth0".into(), "eth1".into()],
        xdp: Xdp::Generic,
        guard: Guard::Enforce,
        guard_syn_rate: 5,
        flows_max: 0,
        shortcut: true,
        cgroup: Some("/c".into()),
    };
    assert_eq!(config.kernel, kernel);
}

#[test]
fn lists_and_scalars_stand_for_each_other() {
    let lists = "p:\n  listen: [127.0.0.1:8102]\n  dyn_listen: 127.0.0.1:8101\n  tokens:\n  - '00'\n  servers: /s:1\n  dyn_seeds:\n";
    let config = check(lists).expect("valid").config;
    assert_eq!((config.tokens, config.seeds.len()), (vec![Token(0)], 0));
    assert_eq!(config.datastore.address.to_string(), "/s");
}

/// The ways in which files of the older program are written.
#[test]
fn forms_of_older_files() {
    let narrow = "pool:\n dyn_listen: 0.0.0.0:8101\n listen: 0.0.0.0:8102\n dyn_seed_provider: simple_provider\n\
                  \u{20}servers:\n  - 127.0.0.1:22122:1\n tokens: 437425602\n data_store: 0\n\
                  \u{20}stats_listen: 0.0.0.0:22222";
    let wide = "# a comment\n\nd:\n    datacenter: dc1\n    rack: rack1\n    listen: 0.0.0.0:8102\n    \
                dyn_listen: 0.0.0.0:8101\n    dyn_seeds: \n        - 127.0.0.1:8113:rack1:dc2:101134286\n    \
                tokens: '101134286'\n    servers:\n        - 127.0.0.1:11371:1\n    preconnect: true\n    \
                read_consistency : DC_SAFE_QUORUM\n    secure_server_option: datacenter\n    \
                pem_key_file: conf/dynomite.pem\n    mbuf_size: 16384\n    max_msgs: 300000\n    \
                datastore_connections: 3\n    local_peer_connections: 3\n    remote_peer_connections: 3\n\n";
    let of = |text: &str| check(text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
    assert_eq!((of(narrow).config.tokens, of(narrow).warnings), (vec![Token(437_425_602)], vec![]));
    let wide = of(wide);
    assert_eq!((wide.config.max_msgs, wide.config.secure, wide.warnings), (300_000, Secure::Datacenter, vec![]));
    assert_eq!((wide.config.tokens, wide.config.seeds[0].port), (vec![Token(101_134_286)], 8113));
}

#[test]
fn every_problem_is_said_with_its_line() {
    refused(
        "timout: 5\nlisten: 1.2.3.4:5\ntimeout: soon\npreconnect: yes\nhash: sha1\nhash_tag: x\nrack:\ndata_store: 2\n\
         secure_server_option: datacentre\nread_consistency: dc_onefoo\nmbuf_size: 1000\nmax_msgs: 5\n\
         server_failure_limit: 99999999999999999999\nzzz: 1",
        &[
            "line 6: directive \"timout\" is unknown; the nearest known key is \"timeout\"",
            "line 7: directive \"listen\" is a duplicate",
            "line 8: directive \"timeout\" is not a number",
            "line 9: directive \"preconnect\" is not \"true\" or \"false\"",
            "line 10: directive \"hash\" is not a valid hash",
            "line 11: directive \"hash_tag\" is not a valid hash tag string with two characters",
            "line 12: directive \"rack\" has an invalid value: it is empty",
            "line 13: directive \"data_store\" must be from 0 to 1",
            "line 14: directive \"secure_server_option:\"must be one of 'none' 'rack' 'datacenter' 'all'",
            "line 15: directive \"read_consistency:\"must be one of 'DC_ONE' 'DC_QUORUM' 'DC_SAFE_QUORUM' 'DC_EACH_SAFE_QUORUM'",
            "line 16: mbuf_size: mbuf size must be a multiple of 16",
            "line 17: max_msgs: max allocated messages buffer must be between 100000 and 1000000 messages",
            "line 18: directive \"server_failure_limit\" must be from 1 to 2147483647",
            "line 19: directive \"zzz\" is unknown",
        ],
    );
}

#[test]
fn what_is_missing_is_said_by_name() {
    let problems = check("p:\n  rack: r\n  servers:\n").expect_err("nothing in it");
    let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let wanted = [
        "directive \"listen:\" is missing",
        "directive \"dyn_listen:\" is missing",
        "pool 'p' has no datastores",
        "directive \"tokens:\" is missing",
    ];
    assert_eq!(texts, wanted);
}

#[test]
fn what_stands_behind_a_syntax_error_is_not_missing() {
    let problems = check("p:\n  timout: 1\n  rack: \"r\n").expect_err("a quote is open");
    let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(texts[0], "line 2: directive \"timout\" is unknown; the nearest known key is \"timeout\"");
    assert!(texts.iter().any(|text| text.starts_with("line 3: this is not YAML")), "{texts:?}");
    assert!(!texts.iter().any(|text| text.contains("missing")), "{texts:?}");
}

#[test]
fn shapes_that_mean_nothing() {
    refused("timeout: [1, 2]", &["line 6: directive \"timeout\" is a duplicate"]);
    refused("timeout: {a: 1}", &["line 6: directive \"timeout\" has an invalid mapping \"key:\""]);
    refused("kernel: off", &["line 6: directive \"kernel\" must have its keys below it"]);
    refused("kernel: {mod: off}", &["line 6: directive \"mod\" is unknown; the nearest known key is \"mode\""]);
    refused("kernel: {rack: off}", &["line 6: directive \"rack\" is unknown; it belongs outside \"kernel:\""]);
    refused("flows_max: 1", &["line 6: directive \"flows_max\" is unknown; it belongs inside \"kernel:\""]);
    refused(
        "kernel: {cgroup: slice}",
        &["line 6: directive \"cgroup\" must be an absolute path: nodes are started from anywhere"],
    );
    refused("kernel: {mode: on}", &["line 6: directive \"mode\" must be one of 'auto' 'off' 'required'"]);
    let two = "a:\n  rack: b\nb: 1\n";
    assert!(
        check(two)
            .expect_err("two")
            .iter()
            .any(|p| p.to_string() == "line 3: a second pool, 'b': one file is one node")
    );
    assert_eq!(check("a: 1").expect_err("no keys")[0].to_string(), "line 1: pool 'a' must have its keys below it");
    assert_eq!(check("{}").expect_err("no pool")[0].to_string(), "there is no pool: a name, then its keys");
}

#[test]
fn one_datastore() {
    let text = NEEDED.replace("[127.0.0.1:22122:1]", "[127.0.0.1:22122:1, 127.0.0.1:22123:1]");
    let problems = check(&text).expect_err("two datastores");
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, ["line 5: directive \"servers\" has more than one datastore: a node has one"]);
}

#[test]
fn seeds_are_the_other_nodes() {
    refused(
        "rack: r\ndatacenter: d\ndyn_seeds:\n- 127.0.0.1:8101:r:d:9\n- 127.0.0.2:8101:r:d:7\n- 127.0.0.3:8101:r2:d:7\n\
         - 127.0.0.3:8101:r3:d:7\n- 127.0.0.4:8101:r2:d:7\n- 127.0.0.5:8101:r2\n- 127.0.0.6:8101:r:d:x",
        &[
            "line 9: directive \"dyn_seeds\" has this node itself, 127.0.0.1:8101, with another datacenter, rack or token \
             than its own",
            "line 10: directive \"dyn_seeds\" has the token 7 of this node again for 127.0.0.2:8101, in rack 'r' of \
             datacenter 'd'",
            "line 12: directive \"dyn_seeds\" has 127.0.0.3:8101 twice, in different words",
            "line 13: directive \"dyn_seeds\" has the token 7 of 127.0.0.3:8101 again for 127.0.0.4:8101, in rack 'r2' of \
             datacenter 'd'",
            "line 14: directive \"dyn_seeds\" has an invalid format must match \"hostname:port:rack:dc:tokens [name]\"",
            "line 15: directive \"dyn_seeds\" has an invalid value: the token 'x' is not a number from 0 to 4294967295",
        ],
    );
}

#[test]
fn the_same_list_of_seeds_may_be_on_every_node() {
    let seeds =
        "rack: r\ndatacenter: d\ndyn_seeds:\n- 127.0.0.1:8101:r:d:7\n- 127.0.0.2:8101:r:d:9\n- 127.0.0.2:8101:r:d:9";
    warned(
        seeds,
        &[
            "line 9: directive \"dyn_seeds\" has this node itself, 127.0.0.1:8101: ignored",
            "line 11: directive \"dyn_seeds\" has 127.0.0.2:8101 twice",
        ],
    );
    assert_eq!(config(seeds).seeds.len(), 1);
}

#[test]
fn listeners_do_not_collide() {
    refused("stats_listen: 127.0.0.1:8102", &["line 6: directive \"stats_listen\" has the address of \"listen\""]);
    refused("stats_listen: 0.0.0.0:8101", &["line 6: directive \"stats_listen\" has the address of \"dyn_listen\""]);
    config("stats_listen: 127.0.0.2:8102");
}

#[test]
fn interfaces_have_names_that_linux_knows() {
    config("kernel: {interface: [abcdefghijklmno, eth0]}");
    refused(
        "kernel: {interface: [eth0, abcdefghijklmnop]}",
        &["line 6: directive \"interface\" has 'abcdefghijklmnop': names of interfaces have at most 15 bytes"],
    );
}

#[test]
fn warnings_name_what_has_no_effect() {
    warned("kernel: {guard: enforce}", &["line 6: directive \"guard\" has no effect without \"interface\""]);
    warned("kernel: {guard: enforce, interface: eth0}", &[]);
    warned("distribution: vnode", &["line 6: directive \"distribution\" has no effect: keys are distributed by token"]);
    warned(
        "server_connections: [1, {a: b}]",
        &["line 6: directive \"server_connections\" has no effect: datastore_connections is what counts"],
    );
    warned(
        "read_repairs_enabled: true",
        &["line 6: directive \"read_repairs_enabled\" has no effect below dc_quorum, for reads and for writes"],
    );
    warned(
        "enable_gossip: true",
        &["line 6: directive \"enable_gossip\" has no effect yet: there is no gossip, members are those of dyn_seeds"],
    );
    for provider in ["florida_provider", "dns_provider"] {
        warned(
            &format!("dyn_seed_provider: {provider}"),
            &["line 6: directive \"dyn_seed_provider\" has no effect yet: members are those of dyn_seeds"],
        );
    }
    warned(
        "dyn_seed_provider: nonsense",
        &[
            "line 6: directive \"dyn_seed_provider\" is none of 'simple_provider' 'florida_provider' 'dns_provider' and has no \
          effect: members are those of dyn_seeds",
        ],
    );
    warned("enable_gossip: false\ndyn_seed_provider: simple_provider", &[]);
    warned("hash: murmur3", &[]);
    warned("hash: murmur3\ndyn_seeds:\n- 127.0.0.2:8101:other:localdc:9", &[]);
    warned("hash: murmur\ndyn_seeds:\n- 127.0.0.2:8101:localrack:localdc:9", &[]);
    warned(
        "hash: murmur3\ndyn_seeds:\n- 127.0.0.2:8101:localrack:localdc:9",
        &[
            "line 6: directive \"hash\": murmur3 sends every key of a rack to its smallest token in C Dynomite, and to its owner \
             here: do not mix the two, nor expect to find what C nodes have written; murmur is the same in both",
        ],
    );
    let text = NEEDED.replace("tokens: 7", "tokens: 7,8");
    let warnings = check(&text).expect("valid").warnings;
    assert_eq!(warnings[0].to_string(), "line 4: directive \"tokens\" has several: C nodes cannot join this cluster");
}

/// Each row's default and example, and both ends of each range, must be values that its `put` takes.
#[test]
fn rows_fit_their_kinds() {
    let names: Vec<_> = options::rows().map(|row| row.name).collect();
    assert!(names.iter().enumerate().all(|(index, name)| !names[..index].contains(name)), "a key has one row");
    for row in options::rows().chain(KERNEL) {
        let texts = match (row.kind, row.unset) {
            (Kind::Map(_) | Kind::Obsolete, _) => continue,
            (Kind::Count(from, to) | Kind::Millis(from, to) | Kind::Bytes(from, to), _) => {
                vec![from.to_string(), to.to_string()]
            }
            (Kind::Choice(names), _) => names.iter().map(|name| (*name).to_owned()).collect(),
            (Kind::Flag, _) => vec!["true".to_owned(), "false".to_owned()],
            (_, Unset::Is(text) | Unset::Absent(text) | Unset::Required(text)) => vec![text.to_owned()],
        };
        texts.iter().for_each(|text| put(row, text));
        if let Unset::Is(text) = row.unset {
            put(row, text);
        }
    }
}

fn put(row: &Row, text: &str) {
    let value = row.kind.read(row.name, text).unwrap_or_else(|reason| panic!("{} {text}: {reason:?}", row.name));
    let put = (row.put)(&mut Config::blank("p"), value.expect("not a zero that stands for something else"));
    assert_eq!(put, Ok(()), "{}: {text}", row.name);
}

fn conf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf").join(name)
}

#[test]
fn the_reference_is_fresh_and_says_the_defaults() {
    let path = conf("reference.yml");
    if std::env::var_os("DYNOMITE_DOCS").is_some_and(|wish| wish == "write") {
        fs::write(&path, reference()).expect("written");
    }
    assert!(fs::read_to_string(&path).expect("conf/reference.yml") == reference(), "conf/reference.yml: see its head");
    let loaded = check(&reference()).unwrap_or_else(|problems| panic!("{problems:?}"));
    let expected = Config { pool: "dyn_o_mite".into(), tokens: vec![Token(0)], ..config("") };
    assert_eq!(loaded.config, expected);
}

/// The samples: no problems, no warnings, and another reader of YAML finds the same texts in them.
#[test]
fn samples_are_valid() {
    let mut count = 0;
    for entry in fs::read_dir(conf("")).expect("conf") {
        let path = entry.expect("entry").path();
        if path.extension().is_none_or(|extension| extension != "yml") {
            continue;
        }
        count += 1;
        let loaded = load(&path).unwrap_or_else(|invalid| panic!("{invalid}"));
        assert_eq!(loaded.warnings, [], "{path:?}");
        let text = fs::read_to_string(&path).expect("read");
        let other: serde_yaml::Value = serde_yaml::from_str(&text).expect("YAML");
        let root = parse::parse(&text).root;
        assert_eq!(plain(&parse::Node::Map(root)), plain_of(&other), "{path:?}");
    }
    assert!(count >= 8, "{count} samples");
}

fn plain(node: &parse::Node) -> String {
    match node {
        parse::Node::Empty => "null".into(),
        parse::Node::Scalar(scalar) => scalar.text.clone(),
        parse::Node::List(list) => format!("[{}]", list.iter().map(plain).collect::<Vec<_>>().join(", ")),
        parse::Node::Map(entries) => {
            let entries: Vec<_> =
                entries.iter().map(|entry| format!("{}: {}", entry.key, plain(&entry.node))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

fn plain_of(value: &serde_yaml::Value) -> String {
    match value {
        serde_yaml::Value::Null => "null".into(),
        serde_yaml::Value::Bool(flag) => flag.to_string(),
        serde_yaml::Value::Number(number) => number.to_string(),
        serde_yaml::Value::String(text) => text.clone(),
        serde_yaml::Value::Sequence(list) => format!("[{}]", list.iter().map(plain_of).collect::<Vec<_>>().join(", ")),
        serde_yaml::Value::Mapping(map) => {
            let entries: Vec<_> =
                map.iter().map(|(key, value)| format!("{}: {}", plain_of(key), plain_of(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        serde_yaml::Value::Tagged(tagged) => plain_of(&tagged.value),
    }
}
