//! A key whose owner moved is never answered by the old table once the change is announced: clients ask without a pause
//! while tables come and go, and every answer of the datastore must have been allowed by a table of that time.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dynomite_common::abi::{CommandRow, KernelHash, Name, TokenRange};
use dynomite_common::token::{self, Token};
use dynomite_tests::resp::words;
use dynomite_tests::{Random, random, until};
use dynomite_user::kernel::{
    FastPath, Flow, Hand, Keys, Language, More, Progress, Refused, Routing, Settings, Turn, push,
};

const KEYS: [&str; 6] = ["alpha", "beta", "gamma", "delta", "{alpha}:more", "x{beta}"];
const CLIENTS: usize = 4;
const OF_DATASTORE: &[u8] = b"$5\r\nstore\r\n";
const OF_DAEMON: &[u8] = b"$5\r\nowner\r\n";

/// Which of `KEYS` may be answered in the kernel, by number of the table. A table counts from when it is begun to be
/// published until the next one is published.
#[derive(Default)]
struct Tables {
    allowed: RwLock<Vec<[bool; KEYS.len()]>>,
    begun: AtomicUsize,
    ended: AtomicUsize,
}

fn token_of(hash: KernelHash, key: &str) -> u32 {
    let part = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or(key, |(tag, _)| tag);
    let Token(token) = match hash {
        KernelHash::Murmur => token::murmur(part.as_bytes()),
        _ => token::fnv1a_64(part.as_bytes()),
    };
    token
}

/// Any table: nothing at all, no command, some of the keys by one hash or another.
fn any(random: &mut Random) -> (Option<Routing>, [bool; KEYS.len()]) {
    if random.one_in(8) {
        return (None, [false; KEYS.len()]);
    }
    let hash = random.pick(&[KernelHash::Murmur, KernelHash::Fnv1a64]);
    let tokens = KEYS.map(|key| token_of(hash, key));
    let ranges: Vec<TokenRange> = (0..random.below(4))
        .map(|_| {
            let last = random.pick(&tokens);
            TokenRange { first: last.saturating_sub(random.below(1 << 28) as u32), last }
        })
        .collect();
    let is_within = |token: u32| ranges.iter().any(|range| range.first <= token && token <= range.last);
    let knows_get = !random.one_in(8);
    let allowed = tokens.map(|token| knows_get && is_within(token));
    let name = if knows_get { "get" } else { "strlen" };
    let commands = vec![(Name::new(name).expect("a short word"), CommandRow { args_min: 2, args_max: 2, number: 0 })];
    (Some(Routing { keys: Some(Keys { hash, tag: Some((b'{', b'}')), ranges }), commands }), allowed)
}

/// One client with its flow; the datastore's end and the node's end answer each with words of its own.
fn line(hand: &Hand, store: &TcpListener, listener: &TcpListener) -> (TcpStream, TcpStream, Flow, TcpStream) {
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (node, _) = listener.accept().unwrap();
    let mut flow = loop {
        match hand.dial(&[]) {
            Ok(flow) => break flow,
            Err(Refused::Full) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    let (store, _) = store.accept().unwrap();
    until("the flow is ready", || matches!(flow.on_event(), Progress::Ready));
    for socket in [&client, &node, &store] {
        socket.set_nodelay(true).unwrap();
        // Long enough for a busy machine, short enough to notice the end.
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    }
    flow.adopt(node.as_fd(), 0).unwrap();
    flow.answered();
    (client, node, flow, store)
}

/// Reads what is there; `None` at the end of the test.
fn read(mut socket: &TcpStream, space: &mut [u8], is_served: &AtomicBool) -> Option<usize> {
    loop {
        match socket.read(space) {
            Ok(0) => return None,
            Ok(count) => return Some(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !is_served.load(Ordering::Relaxed) {
                    return None;
                }
            }
            // A flow that goes resets its connection to the datastore. A client that is reset has yet to read its answer.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("{error}"),
        }
    }
}

fn serve_as_datastore(mut socket: TcpStream, is_served: &AtomicBool) {
    let mut space = [0; 256];
    while read(&socket, &mut space, is_served).is_some() {
        socket.write_all(OF_DATASTORE).unwrap();
    }
}

fn serve_as_daemon(node: TcpStream, mut flow: Flow, is_served: &AtomicBool) {
    let mut space = [0; 256];
    while let Some(count) = read(&node, &mut space, is_served) {
        flow.on_read(count);
        // A client that asks one thing at a time has had the answer to what was before.
        assert_eq!(flow.turn(node.as_fd()), Turn::Act);
        More(&node).write_all(OF_DAEMON).unwrap();
        flow.on_written(OF_DAEMON.len());
        flow.answered();
        push(&node).unwrap();
    }
}

/// Asks for one key after the other. (answers of the datastore, of the daemon)
fn ask(mut client: TcpStream, mut random: Random, tables: &Tables, is_over: &AtomicBool) -> (u64, u64) {
    let (mut of_datastore, mut of_daemon) = (0, 0);
    let mut answer = [0; OF_DATASTORE.len()];
    client.set_read_timeout(Some(dynomite_tests::TIMEOUT)).unwrap();
    while !is_over.load(Ordering::Relaxed) {
        let key = random.below(KEYS.len());
        let request = words(&format!("GET {}", KEYS[key]));
        let oldest = tables.ended.load(Ordering::SeqCst);
        client.write_all(&request).unwrap();
        client.read_exact(&mut answer).unwrap();
        let newest = tables.begun.load(Ordering::SeqCst);
        if answer == OF_DAEMON {
            of_daemon += 1;
            continue;
        }
        assert_eq!(answer, OF_DATASTORE);
        of_datastore += 1;
        let allowed = tables.allowed.read().unwrap();
        let is_allowed = (oldest.saturating_sub(1)..newest).any(|table| allowed[table][key]);
        assert!(is_allowed, "{} was answered in the kernel by none of tables {oldest} to {newest}", KEYS[key]);
    }
    (of_datastore, of_daemon)
}

#[test]
fn no_key_is_answered_by_a_table_that_is_gone() {
    let _alone = crate::alone();
    let Some(cgroup) = crate::cgroup() else { return };
    let store = TcpListener::bind("127.0.0.1:0").unwrap();
    let datastore = store.local_addr().unwrap();
    let settings = Settings { datastore, language: Language::Resp, flows_max: 64, cgroup };
    let path = FastPath::start(&settings).unwrap_or_else(|error| panic!("{error}"));
    path.publish(Some(&Routing { keys: None, commands: Vec::new() }));
    let hand = path.join(Box::new(|| {}));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let lines: Vec<_> = (0..CLIENTS).map(|_| line(&hand, &store, &listener)).collect();

    let seed = random::seed();
    let mut random = Random::from_seed(seed);
    let (tables, is_over, are_served) = (Tables::default(), AtomicBool::new(false), AtomicBool::new(true));
    let publish = |random: &mut Random| {
        let (routing, allowed) = any(random);
        tables.allowed.write().unwrap().push(allowed);
        tables.begun.fetch_add(1, Ordering::SeqCst);
        path.publish(routing.as_ref());
        tables.ended.fetch_add(1, Ordering::SeqCst);
    };
    publish(&mut random);
    let answers = std::thread::scope(|scope| {
        let (tables, is_over, are_served) = (&tables, &is_over, &are_served);
        let clients: Vec<_> = lines
            .into_iter()
            .enumerate()
            .map(|(number, (client, node, flow, store))| {
                scope.spawn(move || serve_as_datastore(store, are_served));
                scope.spawn(move || serve_as_daemon(node, flow, are_served));
                let random = Random::from_seed(seed ^ (number as u64 + 1) << 40);
                scope.spawn(move || ask(client, random, tables, is_over))
            })
            .collect();
        let end = Instant::now() + random::seconds(4);
        while Instant::now() < end {
            publish(&mut random);
            // From none at all to a few requests' time.
            std::thread::sleep(Duration::from_micros(random.below(2000) as u64));
        }
        is_over.store(true, Ordering::Relaxed);
        let answers: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        are_served.store(false, Ordering::Relaxed);
        answers
    });
    let answers: Vec<(u64, u64)> =
        answers.into_iter().map(|answer| answer.unwrap_or_else(|_| panic!("seed {seed}"))).collect();
    let (of_datastore, of_daemon) = answers.iter().fold((0, 0), |sum, answer| (sum.0 + answer.0, sum.1 + answer.1));
    let published = tables.ended.into_inner();
    println!("{published} tables, {of_datastore} answers of the datastore, {of_daemon} of the daemon");
    assert!(published > 50 && of_datastore > 100 && of_daemon > 100);
}
