//! Keys and texts → `Config`, or everything that is wrong with them.
//! Owns: what must be there, what must be there once, and what must not be said of two things at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::options::{self, KERNEL, Kind, Row, Unset};
use super::parse::{self, Entry, Node, Scalar};
use super::problem::Problem;
use super::value::{HostPort, Reason, Seed, SeedProvider};
use super::{Address, Config, Guard, Loaded};
use crate::coordinator::ConsistencyLevel;
use crate::protocol::Protocol;
use crate::ring::hash::HashKind;

/// Why gossip does nothing.
pub const NO_GOSSIP: &str = "there is no gossip, members are those of dyn_seeds";

/// Checks the text of a configuration.
pub fn check(text: &str) -> Result<Loaded, Vec<Problem>> {
    let (loaded, problems) = examine(text);
    if problems.is_empty() { Ok(loaded) } else { Err(problems) }
}

/// What can be understood of it, defaults in the place of what cannot, and what is wrong.
pub fn examine(text: &str) -> (Loaded, Vec<Problem>) {
    let parsed = parse::parse(text);
    let mut checker = Checker { problems: parsed.problems, ..Checker::default() };
    let mut pools = parsed.root.iter();
    let config = pools.next().map(|pool| checker.pool(pool, parsed.complete));
    for other in pools {
        checker.problem(other.line, format!("a second pool, '{}': one file is one node", other.key));
    }
    if config.is_none() && checker.problems.is_empty() {
        checker.problems.push(Problem::of_file("there is no pool: a name, then its keys".to_owned()));
    }
    checker.problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    let config = config.unwrap_or_else(|| Config::blank(""));
    (Loaded { config, warnings: checker.warnings, given: checker.lines }, checker.problems)
}

#[derive(Default)]
struct Checker {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Where each key was given first.
    lines: BTreeMap<&'static str, usize>,
    /// Keys behind which something was written.
    filled: BTreeSet<&'static str>,
}

impl Checker {
    fn problem(&mut self, line: usize, text: String) {
        self.problems.push(Problem::at(line, text));
    }

    fn warn(&mut self, line: usize, text: String) {
        self.warnings.push(Problem::at(line, text));
    }

    fn refused(&mut self, line: usize, key: &str, reason: Reason) {
        self.problem(
            line,
            match reason {
                Reason::Of(text) => format!("directive \"{key}\" {text}"),
                Reason::Whole(text) => text,
            },
        );
    }

    fn pool(&mut self, pool: &Entry, complete: bool) -> Config {
        let mut config = Config::blank(&pool.key);
        put_defaults(options::rows(), &mut config);
        match &pool.node {
            Node::Map(entries) => self.entries(entries, &mut config, Table::Pool),
            Node::Empty if !complete => {}
            _ => self.problem(pool.line, format!("pool '{}' must have its keys below it", pool.key)),
        }
        // What stands behind a syntax error is not missing.
        if complete {
            self.missing(&pool.key);
        }
        self.together(&mut config);
        config
    }

    fn entries(&mut self, entries: &[Entry], config: &mut Config, table: Table) {
        let mut seen = BTreeSet::new();
        for entry in entries {
            let Some(row) = table.row(&entry.key) else {
                let text = format!("directive \"{}\" is unknown{}", entry.key, table.hint(&entry.key));
                self.problem(entry.line, text);
                continue;
            };
            if !seen.insert(row.name) {
                self.refused(entry.line, row.name, Reason::of("is a duplicate"));
                continue;
            }
            if let Table::Pool = table {
                self.lines.insert(row.name, entry.line);
            }
            self.entry(entry, row, config);
        }
    }

    fn entry(&mut self, entry: &Entry, row: &'static Row, config: &mut Config) {
        match (row.kind, &entry.node) {
            (Kind::Obsolete, _) => {
                self.warn(entry.line, format!("directive \"{}\" has no effect: {}", row.name, row.help));
            }
            (Kind::Map(_), Node::Map(entries)) => self.entries(entries, config, Table::Kernel),
            (Kind::Map(_), Node::Empty) => {}
            (Kind::Map(_), _) => self.refused(entry.line, row.name, Reason::of("must have its keys below it")),
            (kind, Node::Empty) if kind.is_list() => {}
            (_, Node::Empty) => self.refused(entry.line, row.name, Reason::of("has an invalid value: it is empty")),
            (_, Node::Scalar(scalar)) => self.scalar(scalar, row, config),
            (kind, Node::List(list)) => {
                if !kind.is_list() && list.len() > 1 {
                    return self.refused(entry.line, row.name, Reason::of("is a duplicate"));
                }
                if let (Kind::Datastores, [_, second, ..]) = (kind, list.as_slice()) {
                    let line = if let Node::Scalar(scalar) = second { scalar.line } else { entry.line };
                    self.filled.insert(row.name);
                    return self.refused(line, row.name, Reason::of("has more than one datastore: a node has one"));
                }
                for node in list {
                    match node {
                        Node::Scalar(scalar) => self.scalar(scalar, row, config),
                        _ => self.refused(
                            entry.line,
                            row.name,
                            Reason::of("has an invalid value: a list of plain values"),
                        ),
                    }
                }
            }
            (_, Node::Map(_)) => self.refused(entry.line, row.name, Reason::of("has an invalid mapping \"key:\"")),
        }
    }

    fn scalar(&mut self, scalar: &Scalar, row: &'static Row, config: &mut Config) {
        if scalar.text.is_empty() {
            return self.refused(scalar.line, row.name, Reason::of("has an invalid value: it is empty"));
        }
        let seeds = config.seeds.len();
        self.filled.insert(row.name);
        match row.kind.read(row.name, &scalar.text) {
            Ok(Some(value)) => {
                if let Err(reason) = (row.put)(config, value) {
                    self.refused(scalar.line, row.name, reason);
                }
            }
            Ok(None) => {
                if let Unset::Is(default) = row.unset {
                    self.warn(scalar.line, format!("directive \"{}\": 0 stands for the default, {default}", row.name));
                }
            }
            Err(reason) => self.refused(scalar.line, row.name, reason),
        }
        config.seeds.iter_mut().skip(seeds).for_each(|seed| seed.line = scalar.line);
    }

    fn missing(&mut self, pool: &str) {
        for row in options::rows() {
            // An empty text was complained about; an empty list was not.
            let said = self.filled.contains(row.name) || (self.lines.contains_key(row.name) && !row.kind.is_list());
            if said || !matches!(row.unset, Unset::Required(_)) {
                continue;
            }
            self.problems.push(Problem::of_file(match row.kind {
                Kind::Datastores => format!("pool '{pool}' has no datastores"),
                _ => format!("directive \"{}:\" is missing", row.name),
            }));
        }
    }

    /// What only shows when several keys are looked at.
    fn together(&mut self, config: &mut Config) {
        let line = |key: &str| self.lines.get(key).copied();
        let mut problems = Vec::new();
        let mut warnings = Vec::new();
        let tcp = match &config.listen {
            Address::Tcp(address) => Some(("listen", address)),
            Address::Unix(_) => None,
        };
        let listeners: Vec<_> = tcp
            .into_iter()
            .chain([("dyn_listen", &config.dyn_listen), ("stats_listen", &config.stats_listen)])
            .collect();
        for (index, (key, address)) in listeners.iter().enumerate() {
            for (other, taken) in &listeners[..index] {
                if address.port != 0 && collide(address, taken) {
                    let at = line(key).or(line(other));
                    problems.push(Problem {
                        line: at,
                        text: format!("directive \"{key}\" has the address of \"{other}\""),
                    });
                }
            }
        }
        let mut tokens = config.tokens.clone();
        tokens.sort_unstable();
        if let (Some(twice), Some(at)) = (tokens.windows(2).find(|pair| pair[0] == pair[1]), line("tokens")) {
            problems.push(Problem::at(at, format!("directive \"tokens\" has {} twice", twice[0].0)));
        }
        if let (true, Some(at)) = (config.tokens.len() > 1, line("tokens")) {
            warnings
                .push(Problem::at(at, "directive \"tokens\" has several: C nodes cannot join this cluster".to_owned()));
        }
        seeds(config, &mut problems, &mut warnings);
        if let (Protocol::Memcache, Some(at)) = (config.protocol, line("read_repairs_enabled"))
            && config.read_repairs_enabled
        {
            warnings
                .push(Problem::at(at, "directive \"read_repairs_enabled\" has no effect with memcached".to_owned()));
        }
        if config.read_repairs_enabled
            && config.read_consistency.min(config.write_consistency) == ConsistencyLevel::DcOne
            && let Some(at) = line("read_repairs_enabled")
        {
            let text = "directive \"read_repairs_enabled\" has no effect below dc_quorum, for reads and for writes";
            warnings.push(Problem::at(at, text.to_owned()));
        }
        if let (true, Some(at)) = (config.enable_gossip, line("enable_gossip")) {
            let text = format!("directive \"enable_gossip\" has no effect yet: {NO_GOSSIP}");
            warnings.push(Problem::at(at, text));
        }
        if let Some(at) = line("dyn_seed_provider") {
            let what = match config.seed_provider {
                SeedProvider::Simple => None,
                SeedProvider::Florida | SeedProvider::Dns => Some("has no effect yet"),
                SeedProvider::Unknown => {
                    Some("is none of 'simple_provider' 'florida_provider' 'dns_provider' and has no effect")
                }
            };
            let text = |what| format!("directive \"dyn_seed_provider\" {what}: members are those of dyn_seeds");
            warnings.extend(what.map(|what| Problem::at(at, text(what))));
        }
        if config.kernel.guard == Guard::Enforce
            && config.kernel.interfaces.is_empty()
            && let Some(at) = line("kernel")
        {
            warnings.push(Problem::at(at, "directive \"guard\" has no effect without \"interface\"".to_owned()));
        }
        if let (HashKind::Murmur3, Some(at)) = (config.hash, line("hash"))
            && shares_a_rack(config)
        {
            let text = "directive \"hash\": murmur3 sends every key of a rack to its smallest token in C Dynomite, and to its owner \
                        here: do not mix the two, nor expect to find what C nodes have written; murmur is the same in both";
            warnings.push(Problem::at(at, text.to_owned()));
        }
        if let (Protocol::Memcache, Some(at)) = (config.protocol, line("requirepass")) {
            problems.push(Problem::at(at, "directive \"requirepass\" is for Redis, not for memcached".to_owned()));
        }
        self.problems.append(&mut problems);
        self.warnings.append(&mut warnings);
        self.warnings.sort_by_key(|warning| warning.line);
    }
}

/// Has any rack more than one node?
fn shares_a_rack(config: &Config) -> bool {
    let own = (config.datacenter.as_str(), config.rack.as_str());
    let mut racks = BTreeSet::from([own]);
    !config.seeds.iter().all(|seed| racks.insert((&seed.datacenter, &seed.rack)))
}

/// Seeds against this node and against each other. A list that is the same file on every node is fine: what is said
/// twice, this node among it, is taken once. What is said in two ways is refused.
fn seeds(config: &mut Config, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) {
    let mut owners: BTreeMap<(String, String, u32), String> = BTreeMap::new();
    for token in &config.tokens {
        owners.insert((config.datacenter.clone(), config.rack.clone(), token.0), "this node".to_owned());
    }
    let mut kept: Vec<Seed> = Vec::new();
    for seed in std::mem::take(&mut config.seeds) {
        let address = seed.address();
        let said = |text: String| Problem::at(seed.line, format!("directive \"dyn_seeds\" {text}"));
        if collide(&address, &config.dyn_listen) {
            let same =
                (&seed.datacenter, &seed.rack, &seed.tokens) == (&config.datacenter, &config.rack, &config.tokens);
            match same {
                true => warnings.push(said(format!("has this node itself, {address}: ignored"))),
                false => problems.push(said(format!(
                    "has this node itself, {address}, with another datacenter, rack or token than its own"
                ))),
            }
            continue;
        }
        if let Some(other) = kept.iter().find(|other| other.address() == address) {
            let same = Seed { line: seed.line, ..other.clone() } == seed;
            match same {
                true => warnings.push(said(format!("has {address} twice"))),
                false => problems.push(said(format!("has {address} twice, in different words"))),
            }
            continue;
        }
        for token in &seed.tokens {
            let place = (seed.datacenter.clone(), seed.rack.clone(), token.0);
            if let Some(owner) = owners.insert(place, address.to_string()) {
                problems.push(said(format!(
                    "has the token {} of {owner} again for {address}, in rack '{}' of datacenter '{}'",
                    token.0, seed.rack, seed.datacenter
                )));
            }
        }
        if seed.tokens.len() > 1 {
            warnings.push(said("has several tokens for one node: C nodes cannot join this cluster".to_owned()));
        }
        kept.push(seed);
    }
    config.seeds = kept;
}

/// Would a socket bound to one be found at the other?
fn collide(one: &HostPort, other: &HostPort) -> bool {
    let loopback = |address: &HostPort| {
        address.host == "localhost" || address.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let covers = |wide: &HostPort, narrow: &HostPort| wide.is_wildcard() && (narrow.is_wildcard() || loopback(narrow));
    one.port == other.port && (one.host == other.host || covers(one, other) || covers(other, one))
}

fn put_defaults(rows: impl Iterator<Item = &'static Row>, config: &mut Config) {
    for row in rows {
        if let Kind::Map(inner) = row.kind {
            put_defaults(inner.iter(), config);
        }
        if let (Unset::Is(text), Ok(Some(value))) = (row.unset, row.kind.read(row.name, default_text(row))) {
            let put = (row.put)(config, value);
            debug_assert!(put.is_ok(), "the default of {} is '{text}': {put:?}", row.name);
        }
    }
}

fn default_text(row: &Row) -> &'static str {
    match row.unset {
        Unset::Is(text) | Unset::Absent(text) | Unset::Required(text) => text,
    }
}

/// Which keys are meant.
#[derive(Clone, Copy)]
enum Table {
    Pool,
    Kernel,
}

impl Table {
    fn row(self, name: &str) -> Option<&'static Row> {
        match self {
            Table::Pool => options::rows().find(|row| row.name == name),
            Table::Kernel => KERNEL.iter().find(|row| row.name == name),
        }
    }

    /// What may have been meant by an unknown key.
    fn hint(self, name: &str) -> String {
        let (own, other): (Vec<&Row>, &str) = match self {
            Table::Pool => (options::rows().collect(), "inside \"kernel:\""),
            Table::Kernel => (KERNEL.iter().collect(), "outside \"kernel:\""),
        };
        let elsewhere = match self {
            Table::Pool => Table::Kernel,
            Table::Kernel => Table::Pool,
        };
        if elsewhere.row(name).is_some() {
            return format!("; it belongs {other}");
        }
        let plain = name.to_ascii_lowercase().replace('-', "_");
        let nearest = own.iter().map(|row| (strsim::damerau_levenshtein(&plain, row.name), row.name)).min();
        match nearest {
            Some((distance, known)) if distance <= 2.max(name.len() / 3) => {
                format!("; the nearest known key is \"{known}\"")
            }
            _ => String::new(),
        }
    }
}
