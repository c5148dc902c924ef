//! The documents made of the stats: `/info` (JSON), `/metrics` (Prometheus text), `-D` (words).
//! Owns: their shapes. The JSON keeps the key order, blanks and line ends that older tools cut apart with text tools;
//! what is new comes behind, in sections. Knows nothing of: HTTP, clocks, where the sections' numbers come from.

use std::fmt::Write as _;

use super::Registry;
use super::histogram::{Histogram, Summary, Unit};
use super::table::{Kind, Scope, Stat};

/// Who is speaking.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    pub host_name: String,
    pub version: String,
    pub rack: String,
    pub datacenter: String,
    pub pool: String,
    /// The datastore's name: the `servers` entry's own, or its address.
    pub datastore: String,
}

/// Figures that are the process's and the moment's, not a worker's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    pub uptime_secs: u64,
    pub epoch_secs: u64,
    /// The most memory the process ever had, in KB.
    pub memory_max_kb: u64,
}

/// A part's own figures, shown behind the table's. `Arc<dyn Sections>` plugs in what is not counted in `Stats`.
pub trait Sections: Send + Sync {
    fn sections(&self) -> Vec<Section>;
}

#[derive(Clone, Debug)]
pub struct Section {
    /// The JSON object's name, and part of each series' name.
    pub name: &'static str,
    pub entries: Vec<Entry>,
}

/// Entries that differ only in their labels must follow each other. In the JSON labels are part of the name, but for those
/// that only tell more of the first: `peer_rack` behind `peer`.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: &'static str,
    pub help: &'static str,
    pub labels: Vec<(&'static str, String)>,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub enum Value {
    Counter(u64),
    Gauge(u64),
    Text(String),
    Summary(Unit, Box<Summary>),
}

impl Section {
    pub fn new(name: &'static str) -> Section {
        Section { name, entries: Vec::new() }
    }

    pub fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.entries.push(Entry { name, help, labels: Vec::new(), value: Value::Counter(value) });
    }

    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.entries.push(Entry { name, help, labels: Vec::new(), value: Value::Gauge(value) });
    }

    pub fn text(&mut self, name: &'static str, help: &'static str, value: impl Into<String>) {
        self.entries.push(Entry { name, help, labels: Vec::new(), value: Value::Text(value.into()) });
    }

    pub fn summary(&mut self, name: &'static str, help: &'static str, unit: Unit, summary: Summary) {
        let value = Value::Summary(unit, Box::new(summary));
        self.entries.push(Entry { name, help, labels: Vec::new(), value });
    }

    /// Labels the entry that was added last.
    pub fn labelled(&mut self, label: &'static str, value: impl Into<String>) {
        if let Some(entry) = self.entries.last_mut() {
            entry.labels.push((label, value.into()));
        }
    }
}

/// Percentile of `histogram` in thousandths, or its mean or maximum.
#[derive(Clone, Copy)]
enum Figure {
    Max,
    Percentile(u64),
    Mean,
}

impl Figure {
    fn of(self, summary: &Summary) -> u64 {
        match self {
            Figure::Max => summary.max,
            Figure::Percentile(thousandths) => summary.percentile(thousandths),
            Figure::Mean => summary.mean(),
        }
    }
}

/// The document's figures of histograms, in its order.
const FIGURES: &[(&str, Histogram, Figure)] = {
    use Figure::{Max, Mean, Percentile};
    &[
        ("latency_max", Histogram::latency, Max),
        ("latency_999th", Histogram::latency, Percentile(999)),
        ("latency_99th", Histogram::latency, Percentile(990)),
        ("latency_95th", Histogram::latency, Percentile(950)),
        ("latency_mean", Histogram::latency, Mean),
        ("payload_size_max", Histogram::payload_size, Max),
        ("payload_size_999th", Histogram::payload_size, Percentile(999)),
        ("payload_size_99th", Histogram::payload_size, Percentile(990)),
        ("payload_size_95th", Histogram::payload_size, Percentile(950)),
        ("payload_size_mean", Histogram::payload_size, Mean),
        ("average_cross_region_rtt", Histogram::cross_region_rtt, Mean),
        ("99_cross_region_rtt", Histogram::cross_region_rtt, Percentile(990)),
        ("average_cross_zone_latency", Histogram::cross_zone_latency, Mean),
        ("99_cross_zone_latency", Histogram::cross_zone_latency, Percentile(990)),
        ("average_server_latency", Histogram::server_latency, Mean),
        ("99_server_latency", Histogram::server_latency, Percentile(990)),
        ("average_cross_region_queue_wait", Histogram::cross_region_queue_wait, Mean),
        ("99_cross_region_queue_wait", Histogram::cross_region_queue_wait, Percentile(990)),
        ("average_cross_zone_queue_wait", Histogram::cross_zone_queue_wait, Mean),
        ("99_cross_zone_queue_wait", Histogram::cross_zone_queue_wait, Percentile(990)),
        ("average_server_queue_wait", Histogram::server_queue_wait, Mean),
        ("99_server_queue_wait", Histogram::server_queue_wait, Percentile(990)),
        ("client_out_queue_99", Histogram::client_out_queue, Percentile(990)),
        ("server_in_queue_99", Histogram::server_in_queue, Percentile(990)),
        ("server_out_queue_99", Histogram::server_out_queue, Percentile(990)),
        ("dnode_client_out_queue_99", Histogram::dnode_client_out_queue, Percentile(990)),
        ("peer_in_queue_99", Histogram::peer_in_queue, Percentile(990)),
        ("peer_out_queue_99", Histogram::peer_out_queue, Percentile(990)),
        ("remote_peer_out_queue_99", Histogram::remote_peer_out_queue, Percentile(990)),
        ("remote_peer_in_queue_99", Histogram::remote_peer_in_queue, Percentile(990)),
    ]
};

fn of_scope(scope: Scope) -> impl Iterator<Item = Stat> {
    Stat::ALL.iter().copied().filter(move |stat| stat.row().scope == scope)
}

/// The `/info` document.
pub fn info(registry: &Registry, identity: &Identity, process: &Process, sections: &[Section]) -> String {
    let mut out = String::with_capacity(8 * 1024);
    let _ = write!(
        out,
        "{{\"service\":\"dynomite\",\"source\":{},\"version\":{},\"uptime\":{},\n\"timestamp\":{},\n\"rack\":{},\"dc\":{},",
        quoted(&identity.host_name),
        quoted(&identity.version),
        process.uptime_secs,
        process.epoch_secs,
        quoted(&identity.rack),
        quoted(&identity.datacenter),
    );
    let summaries: Vec<Summary> = Histogram::ALL.iter().map(|histogram| registry.summary(*histogram)).collect();
    for (name, histogram, figure) in FIGURES {
        let _ = writeln!(out, "\"{name}\":{},", figure.of(&summaries[*histogram as usize]));
    }
    numbers(&mut out, registry, Scope::Process, ",\n");
    let _ = write!(out, ",\n\"dyn_memory\":{},\n{}: {{", process.memory_max_kb, quoted(&identity.pool));
    numbers(&mut out, registry, Scope::Pool, ",\n");
    let _ = write!(out, ",\n{}: {{", quoted(&identity.datastore));
    numbers(&mut out, registry, Scope::Server, ",\n");
    out.push_str("\n}},\n\"node\": {");
    numbers(&mut out, registry, Scope::Node, ",\n");
    out.push_str("\n}");
    for section in sections {
        let _ = write!(out, ",\n{}: {{", quoted(section.name));
        for (index, entry) in section.entries.iter().enumerate() {
            let label = told_apart_by(&entry.labels);
            let name = |figure: &str| quoted(&format!("{}{figure}{label}", entry.name));
            out.push_str(if index == 0 { "" } else { ",\n" });
            let _ = match &entry.value {
                Value::Counter(value) | Value::Gauge(value) => write!(out, "{}:{value}", name("")),
                Value::Text(text) => write!(out, "{}:{}", name(""), quoted(text)),
                Value::Summary(_, summary) => {
                    let (mean, most) = (summary.mean(), summary.percentile(990));
                    write!(out, "{}:{mean},\n{}:{most}", name("_mean"), name("_99th"))
                }
            };
        }
        out.push_str("\n}");
    }
    out.push_str("}\n");
    out
}

fn told_apart_by(labels: &[(&str, String)]) -> String {
    let tells_more = |label: &str| {
        labels.first().is_some_and(|(first, _)| label.strip_prefix(first).is_some_and(|rest| rest.starts_with('_')))
    };
    labels.iter().filter(|(label, _)| !tells_more(label)).map(|(_, value)| format!("_{value}")).collect()
}

fn numbers(out: &mut String, registry: &Registry, scope: Scope, separator: &str) {
    for (index, stat) in of_scope(scope).enumerate() {
        let separator = if index == 0 { "" } else { separator };
        let _ = write!(out, "{separator}\"{}\":{}", stat.row().name, registry.total(stat));
    }
}

fn quoted(text: &str) -> String {
    // Cannot fail: a string has no keys and no floats.
    serde_json::to_string(text).unwrap_or_default()
}

/// The `/metrics` document, Prometheus text format 0.0.4.
pub fn metrics(registry: &Registry, identity: &Identity, process: &Process, sections: &[Section]) -> String {
    let mut out = Exposition::new(identity);
    out.head("build_info", "gauge", "which node and which version");
    out.line(
        "build_info",
        &[("version", &identity.version), ("host", &identity.host_name), ("datastore", &identity.datastore)],
        1,
    );
    out.single("uptime_seconds", "gauge", "since the start", process.uptime_secs);
    out.single("memory_max_bytes", "gauge", "the most memory the process ever had", process.memory_max_kb * 1024);
    for histogram in Histogram::ALL {
        out.summary(*histogram, &registry.summary(*histogram));
    }
    for stat in Stat::ALL {
        let row = stat.row();
        let (name, kind) = match row.kind {
            Kind::Counter => (format!("{}_total", row.name), "counter"),
            Kind::Gauge => (row.name.to_owned(), "gauge"),
            Kind::Timestamp => (format!("{}_milliseconds", row.name), "gauge"),
        };
        // `in_queue` alone says nothing among all the series of a fleet.
        let name = if row.scope == Scope::Server { format!("datastore_{name}") } else { name };
        out.head(&name, kind, row.help.trim_start_matches("# "));
        match row.scope {
            Scope::Server => out.line(&name, &[("datastore", &identity.datastore)], registry.total(*stat)),
            Scope::Process | Scope::Pool | Scope::Node => out.line(&name, &[], registry.total(*stat)),
        }
    }
    for section in sections {
        out.section(section);
    }
    out.text
}

struct Exposition {
    text: String,
    /// Labels of every line: where the node stands.
    place: String,
}

impl Exposition {
    fn new(identity: &Identity) -> Exposition {
        let mut place = String::new();
        for (label, value) in [("pool", &identity.pool), ("datacenter", &identity.datacenter), ("rack", &identity.rack)]
        {
            let _ = write!(place, "{}{label}=\"{}\"", if place.is_empty() { "" } else { "," }, label_value(value));
        }
        Exposition { text: String::with_capacity(32 * 1024), place }
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP dynomite_{name} {help}\n# TYPE dynomite_{name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let _ = write!(self.text, "dynomite_{name}{{{}", self.place);
        for (label, value) in labels {
            let _ = write!(self.text, ",{label}=\"{}\"", label_value(value));
        }
        let _ = writeln!(self.text, "}} {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        self.line(name, &[], value);
    }

    fn summary(&mut self, histogram: Histogram, summary: &Summary) {
        let row = histogram.row();
        let name = format!("{}{}", row.name, suffix(row.unit));
        self.head(&name, "summary", &since_reset(row.help));
        self.summary_lines(&name, &[], summary);
        let name = format!("{name}_max");
        self.single(&name, "gauge", "the largest since the last reset", summary.max);
    }

    fn summary_lines(&mut self, name: &str, labels: &[(&str, &str)], summary: &Summary) {
        for (quantile, thousandths) in [("0.5", 500), ("0.95", 950), ("0.99", 990), ("0.999", 999)] {
            let labels = [labels, &[("quantile", quantile)]].concat();
            self.line(name, &labels, summary.percentile(thousandths));
        }
        self.line(&format!("{name}_sum"), labels, summary.sum());
        self.line(&format!("{name}_count"), labels, summary.count);
    }

    fn section(&mut self, section: &Section) {
        let mut before = "";
        for entry in &section.entries {
            let (suffix, kind) = match entry.value {
                Value::Counter(_) => ("_total", "counter"),
                Value::Gauge(_) => ("", "gauge"),
                Value::Text(_) => ("_info", "gauge"),
                Value::Summary(unit, _) => (suffix(unit), "summary"),
            };
            let name = format!("{}_{}{suffix}", section.name, entry.name);
            if entry.name != before {
                let help = if kind == "summary" { since_reset(entry.help) } else { entry.help.to_owned() };
                self.head(&name, kind, &help);
                before = entry.name;
            }
            let mut labels: Vec<(&str, &str)> =
                entry.labels.iter().map(|(label, value)| (*label, value.as_str())).collect();
            match &entry.value {
                Value::Counter(value) | Value::Gauge(value) => self.line(&name, &labels, *value),
                Value::Summary(_, summary) => self.summary_lines(&name, &labels, summary),
                Value::Text(text) => {
                    labels.push((entry.name, text));
                    self.line(&name, &labels, 1);
                }
            }
        }
    }
}

fn suffix(unit: Unit) -> &'static str {
    match unit {
        Unit::Microseconds => "_microseconds",
        Unit::Bytes => "_bytes",
        Unit::Requests => "_requests",
    }
}

fn since_reset(help: &str) -> String {
    format!("{help} (since the last reset, at most five minutes)")
}

fn label_value(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// What `-D` prints: every name with its words.
pub fn describe() -> String {
    let mut out = String::new();
    for (title, scope) in [("pool stats", Scope::Pool), ("server stats", Scope::Server), ("node stats", Scope::Node)] {
        let _ = writeln!(out, "{}{title}:", if out.is_empty() { "" } else { "\n" });
        for stat in of_scope(scope) {
            let _ = writeln!(out, "  {:<20}\"{}\"", stat.row().name, stat.row().help);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            host_name: "node-host".into(),
            version: "1.2.3".into(),
            rack: "rackA".into(),
            datacenter: "dc1".into(),
            pool: "dyn_o_mite".into(),
            datastore: "127.0.0.1:29379".into(),
        }
    }

    fn sample() -> String {
        let registry = Registry::new(1);
        registry.worker(0).add(Stat::client_eof, 13);
        registry.worker(0).record(Histogram::latency, 1106);
        let process = Process { uptime_secs: 7, epoch_secs: 1_795_332_002, memory_max_kb: 11_888 };
        info(&registry, &identity(), &process, &[])
    }

    #[test]
    fn the_document_starts_breaks_and_nests_as_ever() {
        let document = sample();
        let start = "{\"service\":\"dynomite\",\"source\":\"node-host\",\"version\":\"1.2.3\",\"uptime\":7,\n\
                     \"timestamp\":1795332002,\n\"rack\":\"rackA\",\"dc\":\"dc1\",\"latency_max\":1106,\n\
                     \"latency_999th\":1,\n";
        assert!(document.starts_with(start), "{document}");
        for part in [
            "\"remote_peer_in_queue_99\":1,\n\"alloc_msgs\":0,\n\"free_msgs\":0,\n\"alloc_mbufs\":0,\n\"free_mbufs\":0,\n\
             \"dyn_memory\":11888,\n\"dyn_o_mite\": {\"client_eof\":13,\n\"client_err\":0,\n",
            "\"stats_count\":0,\n\"127.0.0.1:29379\": {\"server_eof\":0,\n",
            "\"redis_req_sortedsets\":0,\n\"redis_req_other\":0\n}},\n\"node\": {\"client_accepted\":0,\n",
            "\n}}\n",
        ] {
            assert!(document.contains(part), "{part}\nis not in\n{document}");
        }
    }

    #[test]
    fn the_document_is_json_whatever_the_names() {
        let names = Identity { rack: "r\"1\\".into(), pool: "p\n".into(), ..identity() };
        let mut kernel = Section::new("kernel");
        kernel.text("mode", "the mode", "off \"really\"");
        kernel.counter("passes", "requests passed, by reason", 3);
        kernel.labelled("reason", "not_owner");
        kernel.gauge("seen", "of one", 4);
        for (label, value) in [("peer", "one"), ("peer_rack", "r"), ("class", "c")] {
            kernel.labelled(label, value);
        }
        let document = info(&Registry::new(1), &names, &Process::default(), &[kernel, Section::new("empty")]);
        let value: serde_json::Value = serde_json::from_str(&document).expect("JSON");
        assert_eq!(value["rack"], "r\"1\\");
        assert_eq!(value["p\n"]["127.0.0.1:29379"]["redis_req_get"], 0);
        assert_eq!(value["kernel"]["passes_not_owner"], 3);
        assert_eq!(value["kernel"]["seen_one_c"], 4);
        assert_eq!(value["kernel"]["mode"], "off \"really\"");
    }

    #[test]
    fn metrics_are_series_with_help_type_and_labels() {
        let registry = Registry::new(1);
        registry.worker(0).add(Stat::read_requests, 7);
        let mut kernel = Section::new("kernel");
        for reason in ["not_owner", "credit"] {
            kernel.counter("passes", "requests passed, by reason", 3);
            kernel.labelled("reason", reason);
        }
        let text = metrics(&registry, &identity(), &Process::default(), &[kernel]);
        for line in [
            "# HELP dynomite_datastore_read_requests_total read requests",
            "# TYPE dynomite_datastore_read_requests_total counter",
            "dynomite_datastore_read_requests_total{pool=\"dyn_o_mite\",datacenter=\"dc1\",rack=\"rackA\",datastore=\"127.0.0.1:29379\"} 7",
            "# TYPE dynomite_latency_microseconds summary",
            "dynomite_kernel_passes_total{pool=\"dyn_o_mite\",datacenter=\"dc1\",rack=\"rackA\",reason=\"credit\"} 3",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\nis not in\n{text}");
        }
        let mut heads: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let all = heads.len();
        heads.sort_unstable();
        heads.dedup();
        assert_eq!(heads.len(), all, "a series is introduced once");
    }

    #[test]
    fn descriptions_stand_in_columns() {
        let text = describe();
        assert!(text.starts_with("pool stats:\n  client_eof          \"# eof on client connections\"\n"));
        assert!(text.contains("\n\nserver stats:\n  server_eof          \"# eof on server connections\"\n"));
        assert!(text.contains("  client_non_quorum_w_responses\"# client non quorum write responses\"\n"));
    }
}
