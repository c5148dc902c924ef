//! The built binary: each option, what stands on standard error, and the exit code.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

fn dynomite(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dynomite")).args(arguments).stdin(Stdio::null()).output().expect("started")
}

/// The exit code, and what stands on standard error; nothing stands on standard output.
fn check(arguments: &[&str], code: i32, parts: &[&str]) -> String {
    let output = dynomite(arguments);
    let error = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments:?}");
    for part in parts {
        assert!(error.contains(part), "{arguments:?}: no {part:?} in\n{error}");
    }
    error
}

/// A directory with a configuration whose ports are free, or were a moment ago.
struct Node {
    directory: TempDir,
    stats: SocketAddr,
}

impl Node {
    fn new(more: &str) -> Node {
        let ports: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let [listen, dyn_listen, stats] = [0, 1, 2].map(|index| ports[index].local_addr().expect("bound"));
        let directory = tempfile::tempdir().expect("directory");
        let text = format!(
            "p:\n  listen: {listen}\n  dyn_listen: {dyn_listen}\n  stats_listen: {stats}\n  tokens: 0\n  \
             servers:\n  - 127.0.0.1:1:1\n{more}"
        );
        fs::write(directory.path().join("conf.yml"), text).expect("written");
        Node { directory, stats }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The node's own directory is its working directory, so file names are short.
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dynomite"));
        command.args(["-c", "conf.yml"]).args(arguments.split_whitespace()).current_dir(self.directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn start(&self, arguments: &str) -> Running {
        let running = Running(self.command(arguments).spawn().expect("started"));
        self.until_up();
        running
    }

    fn until_up(&self) {
        until("the stats port to answer", || ask(self.stats, "/ping").is_some_and(|reply| reply.ends_with("OK\r\n")));
    }
}

/// A child that does not outlive its test.
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).expect("signalled");
    }

    fn exit_code(&mut self) -> Option<i32> {
        let mut code = None;
        until("the node to end", || {
            code = self.0.try_wait().expect("waited for");
            code.is_some()
        });
        code.and_then(|status| status.code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The whole reply to a GET, if there is one.
fn ask(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\n\r\n").ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    Some(reply)
}

#[test]
fn what_is_printed_ends_well() {
    check(&["-h"], 0, &["This is dynomite-", "Usage: dynomite ", "--conf-file"]);
    check(&["-?"], 0, &["Usage: dynomite "]);
    check(&["--help"], 0, &["Usage: dynomite "]);
    assert!(!check(&["-V"], 0, &["This is dynomite-"]).contains("Usage"));
    check(&["--version"], 0, &["This is dynomite-"]);
    check(&["-D"], 0, &["This is dynomite-", "pool stats:\n  client_eof          \"# eof", "\nserver stats:\n"]);
    check(&["-t", "-h", "-c", "/nowhere"], 0, &["Usage: dynomite "]);
}

#[test]
fn bad_options_end_with_one() {
    check(&["-z"], 1, &["dynomite: invalid option -- 'z'\n", "Usage: dynomite "]);
    check(&["--zeta"], 1, &["dynomite: invalid option -- 'zeta'\n"]);
    check(&["-c"], 1, &["dynomite: option -c requires a file name\n"]);
    check(&["-v", "loud"], 1, &["dynomite: option -v requires a number\n"]);
    check(&["-x", "0"], 1, &["dynomite: option -x requires a non-zero positive number\n"]);
    check(&["-m", "1000"], 1, &["mbuf_size: mbuf size must be a multiple of 16\n"]);
    check(&["start"], 1, &["dynomite: invalid argument 'start'\n"]);
}

fn verdict(text: &str, code: i32, lines: &[&str]) {
    let node = Node::new("");
    let path = node.path("conf.yml");
    fs::write(&path, text).expect("written");
    let path = path.to_str().expect("text");
    let error = check(&["-t", "-c", path], code, &[]);
    let wanted: Vec<String> = lines.iter().map(|line| format!("dynomite: {}", line.replace("CONF", path))).collect();
    assert_eq!(error.lines().collect::<Vec<_>>(), wanted);
}

#[test]
fn a_configuration_is_tested() {
    let good = "p:\n  listen: 127.0.0.1:1\n  dyn_listen: 127.0.0.1:2\n  tokens: '0'\n  servers:\n  - 127.0.0.1:3:1\n";
    verdict(good, 0, &["configuration file 'CONF' syntax is valid"]);
    verdict(
        &format!("{good}  distribution: vnode\n"),
        0,
        &[
            "warning: CONF:7: directive \"distribution\" has no effect: keys are distributed by token",
            "configuration file 'CONF' syntax is valid",
        ],
    );
    verdict(
        "p:\n  listen: 127.0.0.1\n  dyn_listn: 127.0.0.1:2\n  servers:\n  - 127.0.0.1:3:1\n",
        1,
        &[
            "CONF:2: directive \"listen\" has an invalid \"hostname:port\" format string",
            "CONF:3: directive \"dyn_listn\" is unknown; the nearest known key is \"dyn_listen\"",
            "CONF: directive \"dyn_listen:\" is missing",
            "CONF: directive \"tokens:\" is missing",
            "configuration file 'CONF' syntax is invalid",
        ],
    );
    verdict("\0", 1, &["CONF:1: this is not YAML: a NUL byte", "configuration file 'CONF' syntax is invalid"]);
    verdict(
        "",
        1,
        &["CONF: must contain only 1 document; found 0 documents", "configuration file 'CONF' syntax is invalid"],
    );
}

/// A test and a start come to the same verdict, and say the same; the resolver's own words differ between machines.
fn both_refuse(more: &str, problems: &[&str]) {
    let node = Node::new(more);
    let path = node.path("conf.yml");
    let path = path.to_str().expect("text");
    let tested = check(&["-t", "-c", path], 1, problems);
    check(&["-c", path], 1, problems);
    assert_eq!(tested.lines().count(), problems.len() + 1, "{tested}");
}

#[test]
fn what_keeps_a_node_from_starting_is_said_by_a_test_all_at_once() {
    both_refuse(
        "  colour: blue\n  stats_lisen: 127.0.0.1:1\n  pem_key_file: /nowhere.pem\n  secure_server_option: all\n",
        &[
            "conf.yml:8: directive \"colour\" is unknown",
            "conf.yml:9: directive \"stats_lisen\" is unknown",
            "conf.yml:10: Error: file /nowhere.pem cannot be read: ",
        ],
    );
    let node = Node::new("  distribution: vnode\n  timout: 1\n");
    let text = node.text("conf.yml");
    let text = text
        .replace("- 127.0.0.1:1:1", "- nowhere.invalid:1:1")
        .replace(" listen: 127.0.0.1", " listen: nohost.invalid");
    fs::write(node.path("conf.yml"), text).expect("written");
    check(
        &["-t", "-c", node.path("conf.yml").to_str().expect("text")],
        1,
        &[
            "warning: ",
            "conf.yml:8: directive \"distribution\" has no effect",
            "conf.yml:2: directive \"listen\" has an invalid value: nohost.invalid: ",
            "directive \"servers\" has an invalid value: nowhere.invalid: ",
            "conf.yml:9: directive \"timout\" is unknown",
        ],
    );
}

#[test]
fn a_seed_that_cannot_be_found_is_a_warning() {
    let node = Node::new("  dyn_seeds:\n  - nowhere.invalid:8101:r:d:1\n");
    let path = node.path("conf.yml");
    let warning = "conf.yml:9: directive \"dyn_seeds\" has a host that cannot be found now: nowhere.invalid: ";
    check(&["-t", "-c", path.to_str().expect("text")], 0, &["warning: ", warning, "syntax is valid"]);
    let _running = node.start("-o log");
    until("the log to say so", || node.text("log").contains("peer nowhere.invalid:8101 cannot be found"));
}

#[test]
fn an_invalid_configuration_does_not_start() {
    let missing = check(&["-c", "/nowhere/conf.yml"], 1, &["syntax is invalid"]);
    assert!(missing.contains("/nowhere/conf.yml: cannot be read"), "{missing}");
    let node = Node::new("  colour: blue\n");
    let path = node.path("conf.yml");
    check(
        &["-c", path.to_str().expect("text")],
        1,
        &["conf.yml:8: directive \"colour\" is unknown", "syntax is invalid"],
    );
}

#[test]
fn a_port_that_is_taken_ends_with_one() {
    let node = Node::new("");
    let _taken = TcpListener::bind(node.stats).expect("bound");
    let output = node.command("").stderr(Stdio::piped()).output().expect("started");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(&format!("cannot listen at {}: Address already in use", node.stats)), "{error}");
}

#[test]
fn signals_reach_a_running_node() {
    let node = Node::new("");
    let mut running = node.start("-p pid -o log");
    assert_eq!(node.text("pid"), running.0.id().to_string(), "no line end");
    running.signal(Signal::SIGUSR1);
    until("the signal's line", || node.text("log").contains("signal 10 (SIGUSR1) received\n"));
    running.signal(Signal::SIGTTIN);
    until("the signal's line", || node.text("log").contains("(SIGTTIN) received, up logging level\n"));
    running.signal(Signal::SIGTTOU);
    until("the signal's line", || node.text("log").contains("(SIGTTOU) received, down logging level\n"));
    fs::rename(node.path("log"), node.path("log.1")).expect("moved");
    running.signal(Signal::SIGHUP);
    until("the new file", || node.path("log").exists());
    running.signal(Signal::SIGUSR2);
    until("the signal's line", || node.text("log").contains("(SIGUSR2) received\n"));
    assert!(node.text("log.1").contains("(SIGHUP) received, reopening log file\n"));
    running.signal(Signal::SIGTERM);
    assert_eq!(running.exit_code(), Some(0));
    assert!(node.text("log").contains("signal 15 (SIGTERM) received, exiting\n"));
    assert!(!node.path("pid").exists(), "the pid file goes with the node");
}

#[test]
fn every_way_to_stop_ends_well() {
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
        let node = Node::new("");
        let mut running = node.start("");
        running.signal(signal);
        assert_eq!(running.exit_code(), Some(0), "{signal}");
    }
}

#[test]
fn a_unix_socket_goes_with_its_node() {
    let node = Node::new("");
    let socket = node.path("clients.sock");
    let conf: Vec<String> = (node.text("conf.yml").lines())
        .map(|line| match line.starts_with("  listen: ") {
            true => format!("  listen: {}", socket.display()),
            false => line.to_owned(),
        })
        .collect();
    fs::write(node.path("conf.yml"), conf.join("\n") + "\n").expect("written");
    let mut running = node.start("");
    assert!(socket.exists());
    running.signal(Signal::SIGTERM);
    assert_eq!(running.exit_code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn a_daemon_goes_on_alone() {
    let node = Node::new("");
    let status = node.command("-d -p pid -o log").status().expect("started");
    assert_eq!(status.code(), Some(0));
    node.until_up();
    let pid: i32 = node.text("pid").parse().expect("a pid");
    let files = Path::new("/proc").join(pid.to_string());
    assert_eq!(fs::read_link(files.join("cwd")).expect("cwd"), node.directory.path().canonicalize().expect("path"));
    for stream in ["fd/0", "fd/1", "fd/2"] {
        assert_eq!(fs::read_link(files.join(stream)).expect("open"), Path::new("/dev/null"), "{stream}");
    }
    // Fields of stat: the parent is the fourth, the session the sixth; a daemon of two forks leads no session.
    let stat = fs::read_to_string(files.join("stat")).expect("stat");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("name").1.split_whitespace().collect();
    assert_ne!(fields[1], std::process::id().to_string());
    assert_ne!(fields[3], pid.to_string());
    fs::rename(node.path("log"), node.path("log.1")).expect("moved");
    kill(Pid::from_raw(pid), Signal::SIGHUP).expect("signalled");
    until("the new file", || node.path("log").exists());
    for name in ["log.1", "log", "pid"] {
        let mode = fs::metadata(node.path(name)).expect(name).permissions().mode();
        assert_eq!(mode & 0o022, 0, "{name} is others' to write: {mode:o}");
    }
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("signalled");
    until("the daemon to end", || !node.path("pid").exists());
    assert!(node.text("log").contains("stopped"));
}

#[test]
fn the_command_line_wins_over_the_file() {
    let node = Node::new("");
    let other = TcpListener::bind("127.0.0.2:0").expect("a port").local_addr().expect("bound");
    let _running = Running(node.command(&format!("-a 127.0.0.2 -s {}", other.port())).spawn().expect("started"));
    until("the stats port", || ask(other, "/ping").is_some());
    assert!(TcpStream::connect(node.stats).is_err(), "the file's port is not used");
}

#[test]
fn options_show_on_the_stats_port() {
    let node = Node::new("  read_consistency: dc_quorum\n");
    let _running =
        node.start("-g -v 11 --workers 2 -m 1024 -M 100000 -x 2 -y ignored -i 5 --embedded-datastore -o log");
    let reply = |path| ask(node.stats, path).expect("a reply");
    assert!(reply("/get_consistency").ends_with("Read Consistency: DC_QUORUM\r\nWrite Consistency: DC_ONE\r\n"));
    assert!(reply("/state/get_state").contains("State: NORMAL"));
    assert!(reply("/cluster_describe").contains("\"dcs\": [{\"name\":\"localdc\""));
    assert!(reply("/info").contains("\"p\": {\"client_eof\":0,"));
    assert!(reply("/metrics").contains("# TYPE dynomite_client_connections gauge"));
    assert!(node.text("log").contains("started on pid"));
    assert!(node.text("log").contains("option -g has no effect yet: there is no gossip"));
}

/// `dynomite … | head -1`: when the reader goes, there is nobody to complain to.
#[test]
fn nobody_listens_any_more() {
    let node = Node::new("");
    for line in ["hash foo", "hash foo -c conf.yml", "kernel-check"] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = node.command(line).stdout(writer).stderr(Stdio::piped()).output().expect("ran");
        assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stderr)), (Some(0), ""), "{line}");
    }
    for (line, code) in [("--help", 0), ("-D", 0), ("-t", 0), ("-z", 1), ("hash --help", 0)] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let status = node.command(line).stdout(Stdio::null()).stderr(writer).status().expect("ran");
        assert_eq!(status.code(), Some(code), "{line}");
    }
}

#[test]
fn keys_are_hashed() {
    let node = Node::new("");
    let output = node.command("hash foo").stdout(Stdio::piped()).output().expect("ran");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.starts_with("foo  murmur = 3303027599\n  localdc/localrack "), "{text}");
    let mut child = node.command("hash").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
    child.stdin.take().expect("piped").write_all(b"foo\nbar\n").expect("written");
    let text = String::from_utf8(child.wait_with_output().expect("ran").stdout).expect("text");
    assert!(text.contains("\nbar  murmur = 516654467\n"), "{text}");
}
