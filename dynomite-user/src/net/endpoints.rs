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
    /// Of HTTP: number and words.
    pub status: &'static str,
    pub content_type: &'static str,
    pub body: String,
}

impl Answer {
    pub fn refused(status: &'static str, body: String) -> Answer {
        Answer { status, content_type: TEXT, body }
    }
}

pub const BAD_REQUEST: &str = "400 Bad Request";
const NOT_FOUND: &str = "404 Not Found";
/// What was asked for cannot be done as things are.
const CONFLICT: &str = "409 Conflict";

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is done is answered so.
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
/kernel/<on|off> (route and shortcut; the guard stays)

";

/// What is read without changing anything: HEAD may ask for it, too.
pub const DOCUMENTS: &[&str] = &[
    "/",
    "/info",
    "/metrics",
    "/help",
    "/ping",
    "/cluster_describe",
    "/get_consistency",
    "/get_timeout_factor",
    "/state/get_state",
    "/kernel",
];

/// So many peers are named to whoever asks for another one, and so much of what was asked is shown.
const PEERS_NAMED_MAX: usize = 100;
const SHOWN_CHARS_MAX: usize = 64;
const LEVELS: &str = "dc_one, dc_quorum, dc_safe_quorum, dc_each_safe_quorum";
const STATES: &str = "get_state, standby, writes_only, normal, resuming";

/// Why a path is not obeyed, with what would be.
type Refused = Answer;

impl Admin {
    /// Answers a GET of `path`. What stands behind a `?` is nobody's.
    pub fn answer(&self, path: &str) -> Answer {
        let path = path.split('?').next().unwrap_or_default();
        let mut content_type = JSON;
        let body = match path {
            "/" | "/info" => render::info(&self.registry, &self.identity, &self.process(), &self.sections()),
            "/metrics" => {
                content_type = PROMETHEUS;
                render::metrics(&self.registry, &self.identity, &self.process(), &self.sections())
            }
            "/help" => HELP.to_owned(),
            "/ping" => OK.to_owned(),
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
            _ => match self.act(path) {
                Ok(body) => body,
                Err(refused) => return refused,
            },
        };
        Answer { status: "200 OK", content_type, body }
    }

    /// Paths that go on behind their name.
    fn act(&self, path: &str) -> Result<String, Refused> {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match parts.as_slice() {
            ["setloglevel", rest @ ..] => {
                let wanted = format!("a number from 0 to {LEVEL_MAX}");
                let level = last(rest).and_then(number).ok_or_else(|| bad(rest, &wanted))?;
                Ok(done(|| self.log.set_level(level)))
            }
            ["set_consistency", "read", rest @ ..] => self.set_level(rest, Control::set_read_consistency),
            ["set_consistency", "write", rest @ ..] => self.set_level(rest, Control::set_write_consistency),
            ["set_consistency", rest @ ..] => Err(bad(rest, "read/<level> or write/<level>")),
            ["set_timeout_factor", rest @ ..] => {
                let wanted = format!("a number from 1 to {TIMEOUT_FACTOR_MAX}");
                let factor = last(rest).and_then(number).ok_or_else(|| bad(rest, &wanted))?;
                Ok(done(|| self.control.set_timeout_factor(factor)))
            }
            ["peer", rest @ ..] => {
                let usage = || bad(rest, "up, down or reset, then /<a peer's name> or /all");
                let (verb, name) = rest.split_first().ok_or_else(usage)?;
                let verb = verb.parse::<PeerVerb>().map_err(|()| usage())?;
                // A unix path may be a peer's name, so slashes belong to it.
                match name.join("/").as_str() {
                    "" => Err(usage()),
                    "all" => Ok(done(|| self.control.command_peers(verb, None))),
                    name => {
                        let found = self.find_peers(name)?;
                        found.into_iter().for_each(|address| self.control.command_peers(verb, Some(address)));
                        Ok(OK.to_owned())
                    }
                }
            }
            ["state", "get_state"] => Ok(format!("State: {}\n", self.control.state())),
            ["state", rest @ ..] => {
                let state = match last(rest) {
                    Some("standby") => NodeState::Standby,
                    Some("writes_only") => NodeState::WritesOnly,
                    Some("resuming") => NodeState::Resuming,
                    Some("normal") => NodeState::Normal,
                    _ => return Err(bad(rest, &format!("one of {STATES}"))),
                };
                Ok(done(|| self.control.set_state(state)))
            }
            ["read_repairs", switch, ..] if switch.starts_with("enable") => {
                self.control.set_read_repairs(true);
                Ok("Read Repairs: ENABLED\r\n".to_owned())
            }
            ["read_repairs", switch, ..] if switch.starts_with("disable") => {
                self.control.set_read_repairs(false);
                Ok("Read Repairs: DISABLED\r\n".to_owned())
            }
            ["read_repairs", rest @ ..] => Err(bad(rest, "enable or disable")),
            ["kernel", "on"] => self.switch_kernel(true),
            ["kernel", "off"] => self.switch_kernel(false),
            ["kernel", rest @ ..] => Err(bad(rest, "on or off")),
            _ => Err(Answer::refused(NOT_FOUND, format!("refused: there is no {}; there are\n{HELP}", shown(path)))),
        }
    }

    fn set_level(&self, rest: &[&str], set: fn(&Control, ConsistencyLevel)) -> Result<String, Refused> {
        let level = last(rest).and_then(|text| text.parse().ok());
        let level = level.ok_or_else(|| bad(rest, &format!("one of {LEVELS}")))?;
        Ok(done(|| set(&self.control, level)))
    }

    /// The addresses of those who are called so.
    fn find_peers(&self, name: &str) -> Result<Vec<String>, Refused> {
        let Some(board) = &self.board else { return Ok(vec![name.to_owned()]) };
        let found = board.called(name);
        if !found.is_empty() {
            return Ok(found);
        }
        let (all, mut known) = (board.addresses(), String::new());
        all.iter().take(PEERS_NAMED_MAX).for_each(|address| known = format!("{known} {address}"));
        let more = if all.len() > PEERS_NAMED_MAX { " and others: see /cluster_describe" } else { "" };
        let body = format!("refused: {} is none of the {} peers:{known}{more}\r\n", shown(name), all.len());
        Err(Answer::refused(NOT_FOUND, body))
    }

    fn switch_kernel(&self, on: bool) -> Result<String, Refused> {
        let switched = match &self.kernel {
            None => Err("this node runs without the fast path".to_owned()),
            Some(kernel) => kernel.switch(on),
        };
        let refused = |reason| Answer::refused(CONFLICT, format!("refused: {reason}\r\n"));
        switched.map(|()| OK.to_owned()).map_err(refused)
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

/// The one word that is left of a path, if it is one.
fn last<'a>(rest: &[&'a str]) -> Option<&'a str> {
    if let [word] = rest { Some(word) } else { None }
}

fn bad(rest: &[&str], wanted: &str) -> Refused {
    let text = rest.join("/");
    let body = match text.as_str() {
        "" => format!("refused: {wanted} is missing\r\n"),
        text => format!("refused: {} is not {wanted}\r\n", shown(text)),
    };
    Answer::refused(BAD_REQUEST, body)
}

/// What somebody sent, fit to be shown.
fn shown(text: &str) -> String {
    format!("'{}'", text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect::<String>())
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
    use crate::net::presence::tests::node;
    use crate::ring::topology::Node;
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
            ("/set_consistency/both/dc_one", "refused: 'both/dc_one' is not read/<level> or write/<level>\r\n"),
            ("/set_consistency", "refused: read/<level> or write/<level> is missing\r\n"),
            (
                "/set_consistency/read",
                "refused: one of dc_one, dc_quorum, dc_safe_quorum, dc_each_safe_quorum is missing\r\n",
            ),
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
            ("/set_timeout_factor/1/2", "refused: '1/2' is not a number from 1 to 10\r\n"),
            ("/set_timeout_factor/", "refused: a number from 1 to 10 is missing\r\n"),
        ]);
    }

    #[test]
    fn state_and_repairs() {
        check(&[
            ("/state/get_state", "State: NORMAL\n"),
            ("/state/writes_only", OK),
            ("/state/get_state", "State: WRITES_ONLY\n"),
            ("/state/sleep", "refused: 'sleep' is not one of get_state, standby, writes_only, normal, resuming\r\n"),
            ("/state", "refused: one of get_state, standby, writes_only, normal, resuming is missing\r\n"),
            ("/state/get_state", "State: WRITES_ONLY\n"),
            ("/read_repairs/enable", "Read Repairs: ENABLED\r\n"),
            ("/read_repairs/disabled", "Read Repairs: DISABLED\r\n"),
            ("/read_repairs", "refused: enable or disable is missing\r\n"),
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
        ] {
            assert_eq!(admin.answer(path).body, OK, "{path}");
            assert_eq!(admin.log.level(), level, "{path}");
        }
        let refused = |path| admin.answer(path).body;
        assert_eq!(refused("/setloglevel"), "refused: a number from 0 to 11 is missing\r\n");
        assert_eq!(refused("/setloglevel/loud"), "refused: 'loud' is not a number from 0 to 11\r\n");
    }

    /// Nothing that is not there is answered like something that was done.
    #[test]
    fn what_is_not_known_is_said_with_what_is() {
        let admin = admin();
        let refused = |path: &str, status: &str, wanted: &str| {
            let answer = admin.answer(path);
            assert_eq!((answer.status, answer.body.contains(wanted)), (status, true), "{path}: {}", answer.body);
            assert!(answer.body.starts_with("refused: ") && answer.content_type == TEXT, "{path}: {}", answer.body);
        };
        for path in ["", "//", "/Info", "/help/", "/nosuch", "/loglevelup/1", "info", "/set_consistancy/read/dc_one"] {
            refused(path, NOT_FOUND, "/set_consistency/<read|write>/<dc_one|");
        }
        for path in ["/peer", "/peer/", "/peer/up", "/peer/up/", "/peer/sideways/a", "/peer/all"] {
            refused(path, BAD_REQUEST, "up, down or reset");
        }
        refused("/kernel/of", BAD_REQUEST, "'of' is not on or off");
        refused("/kernel/off", CONFLICT, "this node runs without the fast path");
        refused(&format!("/state/\u{7}{}", "é".repeat(9000)), BAD_REQUEST, &format!("'{}'", "é".repeat(64)));
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
    fn nobody_is_commanded_who_is_not_there() {
        let board = Board::new(Stats::alone());
        let admin = Admin { board: Some(board.clone()), ..admin() };
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = heard.clone();
        admin.control.listen(move |change| log.lock().unwrap().push(change.clone()));
        let refused = |body: &str| {
            let answer = admin.answer("/peer/reset/nobody");
            assert_eq!((answer.status, answer.body.as_str()), (NOT_FOUND, body));
        };
        refused("refused: 'nobody' is none of the 0 peers:\r\n");
        for (host, port) in [("127.0.0.2", 8101), ("127.0.0.2", 8201), ("b", 8101)] {
            board.presence(&Node { name: format!("name-of-{host}"), port, ..node(host) });
        }
        refused("refused: 'nobody' is none of the 3 peers: 127.0.0.2:8101 127.0.0.2:8201 b:8101\r\n");
        for path in ["/peer/down/127.0.0.2", "/peer/down/127.0.0.2:8201", "/peer/down/name-of-b"] {
            assert_eq!(admin.answer(path).body, OK, "{path}");
        }
        let down = |name: &str| Change::Peer { verb: PeerVerb::Down, name: Some(name.to_owned()) };
        let wanted = ["127.0.0.2:8101", "127.0.0.2:8201", "127.0.0.2:8201", "b:8101"].map(down);
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
