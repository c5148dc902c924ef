//! The stats port's paths: what each does, and the text it answers with.
//! Owns: paths and bodies, which operators' tools match on. Knows nothing of: sockets and HTTP heads: see `admin`.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::control::{ClusterView, Control, NodeState, NodeView, PeerVerb, TIMEOUT_FACTOR_MAX};
use crate::coordinator::ConsistencyLevel;
use crate::log::{LEVEL_MAX, Log};
use crate::net::presence::Board;
use crate::stats::render::{self, Identity, Process, Sections};
use crate::stats::{Registry, Stats};

/// The switch of a fast path. The kernel half plugs in here; without it the path says so.
pub trait KernelSwitch: Send + Sync {
    /// A JSON document: what is on, what is not and why.
    fn describe(&self) -> String;
    /// On or off, with live traffic. An error says why it could not be done.
    fn switch(&self, on: bool) -> Result<(), String>;
}

/// What the endpoints act on.
pub struct Admin {
    pub control: Arc<Control>,
    pub registry: Arc<Registry>,
    /// The control thread's own set.
    pub stats: Arc<Stats>,
    pub identity: Identity,
    pub log: Log,
    pub started: Instant,
    pub sections: Vec<Arc<dyn Sections>>,
    /// Who is connected; `None`: nobody asks.
    pub board: Option<Arc<Board>>,
    pub kernel: Option<Arc<dyn KernelSwitch>>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub content_type: &'static str,
    pub body: String,
}

const JSON: &str = "application/json; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What anything that asks for nothing in particular gets.
pub const OK: &str = "OK\r\n";

const HELP: &str = "\
/info
/help
/ping
/cluster_describe
/setloglevel/<0-11>
/loglevelup
/logleveldown
/historeset
/get_consistency
/set_consistency/<read|write>/<dc_one|dc_quorum|dc_safe_quorum|dc_each_safe_quorum>
/get_timeout_factor
/set_timeout_factor/<1-10>
/peer/<up|down|reset>/<name|all>
/state/<get_state|standby|writes_only|normal|resuming>
/read_repairs/<enable|disable>
/metrics
/kernel
/kernel/<on|off>

";

impl Admin {
    /// Answers a GET of `path`. What is not known is answered like a ping: that is what older tools expect.
    pub fn answer(&self, path: &str) -> Answer {
        let mut content_type = JSON;
        let body = match path {
            "/" | "/info" => render::info(&self.registry, &self.identity, &self.process(), &self.sections()),
            "/metrics" => {
                content_type = PROMETHEUS;
                render::metrics(&self.registry, &self.identity, &self.process(), &self.sections())
            }
            "/help" => HELP.to_owned(),
            "/cluster_describe" => describe(&self.control.cluster(), |node| self.state_of(node)),
            "/loglevelup" => done(|| self.log.level_up()),
            "/logleveldown" => done(|| self.log.level_down()),
            "/historeset" => done(|| self.registry.reset_histograms()),
            "/get_consistency" => format!(
                "Read Consistency: {}\r\nWrite Consistency: {}\r\n",
                self.control.read_consistency(),
                self.control.write_consistency()
            ),
            "/get_timeout_factor" => format!("Timeout factor: {}\n", self.control.timeout_factor()),
            "/kernel" => match &self.kernel {
                Some(kernel) => kernel.describe(),
                None => "{\"mode\":\"off\",\"reason\":\"this node runs without the fast path\"}\n".to_owned(),
            },
            "/kernel/on" | "/kernel/off" => self.switch_kernel(path.ends_with("on")),
            _ => self.act(path),
        };
        Answer { content_type, body }
    }

    /// Paths that go on behind their name.
    fn act(&self, path: &str) -> String {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match parts.as_slice() {
            ["setloglevel", level] => match number(level) {
                Some(level) => done(|| self.log.set_level(level)),
                None => refused(level, &format!("a number from 0 to {LEVEL_MAX}")),
            },
            ["set_consistency", "read", level] => self.set_level(level, Control::set_read_consistency),
            ["set_consistency", "write", level] => self.set_level(level, Control::set_write_consistency),
            ["set_timeout_factor", factor] => match number(factor) {
                Some(factor) => done(|| self.control.set_timeout_factor(factor)),
                None => refused(factor, &format!("a number from 1 to {TIMEOUT_FACTOR_MAX}")),
            },
            ["peer", verb, name @ ..] => match verb.parse::<PeerVerb>() {
                // A unix path may be a peer's name, so slashes belong to it.
                Ok(verb) if !name.is_empty() && name != [""] => {
                    let name = name.join("/");
                    done(|| self.control.command_peers(verb, (name != "all").then_some(name)))
                }
                _ => OK.to_owned(),
            },
            ["state", "get_state"] => format!("State: {}\n", self.control.state()),
            ["state", state] => {
                let state = match *state {
                    "standby" => NodeState::Standby,
                    "writes_only" => NodeState::WritesOnly,
                    "resuming" => NodeState::Resuming,
                    "normal" => NodeState::Normal,
                    _ => return OK.to_owned(),
                };
                done(|| self.control.set_state(state))
            }
            ["read_repairs", switch, ..] if switch.starts_with("enable") => {
                self.control.set_read_repairs(true);
                "Read Repairs: ENABLED\r\n".to_owned()
            }
            ["read_repairs", switch, ..] if switch.starts_with("disable") => {
                self.control.set_read_repairs(false);
                "Read Repairs: DISABLED\r\n".to_owned()
            }
            _ => OK.to_owned(),
        }
    }

    fn set_level(&self, text: &str, set: fn(&Control, ConsistencyLevel)) -> String {
        match text.parse() {
            Ok(level) => done(|| set(&self.control, level)),
            Err(_) => refused(text, "one of dc_one, dc_quorum, dc_safe_quorum, dc_each_safe_quorum"),
        }
    }

    fn switch_kernel(&self, on: bool) -> String {
        match &self.kernel {
            None => "refused: this node runs without the fast path\r\n".to_owned(),
            Some(kernel) => match kernel.switch(on) {
                Ok(()) => OK.to_owned(),
                Err(reason) => format!("refused: {reason}\r\n"),
            },
        }
    }

    /// Of a peer: whether a link to it works. Of this node: its state.
    fn state_of(&self, node: &NodeView) -> &'static str {
        match self.board.as_ref().and_then(|board| board.find(&node.host, node.port)) {
            Some(peer) if peer.is_up() => "UP",
            Some(_) => "DOWN",
            None => self.control.state().name(),
        }
    }

    fn sections(&self) -> Vec<render::Section> {
        self.sections.iter().flat_map(|part| part.sections()).collect()
    }

    fn process(&self) -> Process {
        Process {
            uptime_secs: self.started.elapsed().as_secs(),
            epoch_secs: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            memory_max_kb: memory_max_kb(),
        }
    }
}

fn done<T>(change: impl FnOnce() -> T) -> String {
    change();
    OK.to_owned()
}

/// Status 200 all the same, but no `OK`: whoever looks at the body learns that nothing was changed.
fn refused(text: &str, wanted: &str) -> String {
    let text: String = text.chars().take(64).filter(|c| !c.is_control()).collect();
    format!("refused: '{text}' is not {wanted}\r\n")
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // What is too long for a number is above every limit.
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// The peak of resident memory, from the kernel's own account of this process.
fn memory_max_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// Blanks and line ends are those of the older program's document, which has no states.
fn describe(cluster: &ClusterView, state_of: impl Fn(&NodeView) -> &'static str) -> String {
    fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
        items.iter().map(show).collect::<Vec<_>>().join(",")
    }
    // Cannot fail: a string has no keys and no floats.
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let datacenters = list(&cluster.datacenters, |datacenter| {
        let racks = list(&datacenter.racks, |rack| {
            let nodes = list(&rack.nodes, |node| {
                let (name, host) = (quoted(&node.name), quoted(&node.host));
                let (port, token, state) = (node.port, node.token, state_of(node));
                format!(
                    "{{\"name\":{name},\"host\":{host},\"port\":{port},\n\"token\":{token}\n,\"state\":\"{state}\"}}"
                )
            });
            format!("{{\"name\":{},\"servers\": [{nodes}]}}", quoted(&rack.name))
        });
        format!("{{\"name\":{},\"racks\": [{racks}]}}", quoted(&datacenter.name))
    });
    format!("{{\"dcs\": [{datacenters}]}}\n")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::control::{Change, NodeView};
    use std::sync::Mutex;

    pub fn admin() -> Admin {
        let registry = Arc::new(Registry::new(1));
        Admin {
            control: Arc::new(Control::new(ConsistencyLevel::DcOne, ConsistencyLevel::DcOne, false, NodeState::Normal)),
            stats: registry.control(),
            registry,
            identity: Identity { pool: "dyn_o_mite".into(), datastore: "d".into(), ..Identity::default() },
            log: Log::detached(),
            started: Instant::now(),
            sections: Vec::new(),
            board: None,
            kernel: None,
        }
    }

    /// Asks for each path in turn, on one node.
    fn check(steps: &[(&str, &str)]) {
        let admin = admin();
        for (path, body) in steps {
            assert_eq!(admin.answer(path).body, *body, "{path}");
        }
    }

    #[test]
    fn consistency_is_read_and_set() {
        check(&[
            ("/get_consistency", "Read Consistency: DC_ONE\r\nWrite Consistency: DC_ONE\r\n"),
            ("/set_consistency/read/dc_safe_quorum", OK),
            ("/set_consistency/write/DC_EACH_SAFE_QUORUM", OK),
            ("/get_consistency", "Read Consistency: DC_SAFE_QUORUM\r\nWrite Consistency: DC_EACH_SAFE_QUORUM\r\n"),
            (
                "/set_consistency/read/dc_onefoo",
                "refused: 'dc_onefoo' is not one of dc_one, dc_quorum, dc_safe_quorum, dc_each_safe_quorum\r\n",
            ),
            ("/set_consistency/both/dc_one", OK),
            ("/get_consistency", "Read Consistency: DC_SAFE_QUORUM\r\nWrite Consistency: DC_EACH_SAFE_QUORUM\r\n"),
        ]);
    }

    #[test]
    fn timeout_factor_is_clamped() {
        check(&[
            ("/get_timeout_factor", "Timeout factor: 1\n"),
            ("/set_timeout_factor/200", OK),
            ("/get_timeout_factor", "Timeout factor: 10\n"),
            ("/set_timeout_factor/99999999999999999999999", OK),
            ("/get_timeout_factor", "Timeout factor: 10\n"),
            ("/set_timeout_factor/0", OK),
            ("/get_timeout_factor", "Timeout factor: 1\n"),
            ("/set_timeout_factor/x", "refused: 'x' is not a number from 1 to 10\r\n"),
        ]);
    }

    #[test]
    fn state_and_repairs() {
        check(&[
            ("/state/get_state", "State: NORMAL\n"),
            ("/state/writes_only", OK),
            ("/state/get_state", "State: WRITES_ONLY\n"),
            ("/state/sleep", OK),
            ("/state", OK),
            ("/state/get_state", "State: WRITES_ONLY\n"),
            ("/read_repairs/enable", "Read Repairs: ENABLED\r\n"),
            ("/read_repairs/disabled", "Read Repairs: DISABLED\r\n"),
            ("/read_repairs", OK),
        ]);
    }

    #[test]
    fn the_log_level_is_clamped() {
        let admin = admin();
        for (path, level) in [
            ("/setloglevel/300", 11),
            ("/loglevelup", 11),
            ("/logleveldown", 10),
            ("/setloglevel/0", 0),
            ("/logleveldown", 0),
            ("/setloglevel", 0),
        ] {
            assert_eq!(admin.answer(path).body, OK, "{path}");
            assert_eq!(admin.log.level(), level, "{path}");
        }
    }

    #[test]
    fn unknown_paths_are_pings() {
        check(&[("/ping", OK), ("/info?x", OK), ("/help/", OK), ("/Info", OK), ("", OK), ("//", OK), ("/peer", OK)]);
        check(&[
            ("/peer/up/", OK),
            ("/peer/sideways/a", OK),
            ("/kernel/off", "refused: this node runs without the fast path\r\n"),
        ]);
    }

    #[test]
    fn peers_are_commanded_by_name_or_all() {
        let admin = admin();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = heard.clone();
        admin.control.listen(move |change| log.lock().unwrap().push(change.clone()));
        for path in ["/peer/down/127.0.0.2", "/peer/reset/all", "/peer/up/a/b"] {
            assert_eq!(admin.answer(path).body, OK);
        }
        let peer = |verb, name: Option<&str>| Change::Peer { verb, name: name.map(str::to_owned) };
        let wanted =
            [peer(PeerVerb::Down, Some("127.0.0.2")), peer(PeerVerb::Reset, None), peer(PeerVerb::Up, Some("a/b"))];
        assert_eq!(*heard.lock().unwrap(), wanted);
    }

    #[test]
    fn the_root_is_the_info_document() {
        let admin = admin();
        let info: serde_json::Value = serde_json::from_str(&admin.answer("/").body).expect("JSON");
        assert!(info["dyn_memory"].as_u64().expect("a number") > 0);
        assert!(info["timestamp"].as_u64().expect("a number") > 1_700_000_000);
        assert!(admin.answer("/metrics").body.starts_with("# HELP dynomite_build_info"));
        assert_eq!(admin.answer("/metrics").content_type, PROMETHEUS);
    }

    #[test]
    fn the_cluster_is_described_with_its_blanks() {
        let admin = admin();
        let node =
            |name: &str, host: &str, token| NodeView { name: name.into(), host: host.into(), port: 29101, token };
        let mut view = ClusterView::default();
        view.add("dc1", "rackA", node("127.77.0.1", "ec2-1-2-3-4.example.com", 100));
        view.add("dc1", "rackA", node("127.77.0.2", "127.77.0.2", u32::MAX));
        admin.control.set_cluster(view);
        assert_eq!(
            admin.answer("/cluster_describe").body,
            "{\"dcs\": [{\"name\":\"dc1\",\"racks\": [{\"name\":\"rackA\",\"servers\": [{\"name\":\"127.77.0.1\",\
             \"host\":\"ec2-1-2-3-4.example.com\",\"port\":29101,\n\"token\":100\n,\"state\":\"NORMAL\"},{\"name\":\"127.77.0.2\",\
             \"host\":\"127.77.0.2\",\"port\":29101,\n\"token\":4294967295\n,\"state\":\"NORMAL\"}]}]}]}\n"
        );
    }
}
