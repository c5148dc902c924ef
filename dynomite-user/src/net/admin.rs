//! The stats port: HTTP/1 as far as curl, Prometheus and operators' scripts need it. One request a connection.
//! Owns: heads, limits and patience. Many ask at one time, and whoever asks slowly holds up nobody. Runs on the control
//! thread. Next: `endpoints`, for what a path does.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::endpoints::{Admin, Answer, BAD_REQUEST, DOCUMENTS};
use crate::stats::Stat;

/// A request line longer than this asks for nothing that we have.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Who asks at one time; more are closed at once. A dashboard and a few tools are a handful.
const CONNECTIONS_MAX: usize = 64;
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);
const REPLY_PATIENCE: Duration = Duration::from_secs(10);
/// How long, and for how much, we listen to the rest of a request after the reply: closing at once with unread bytes
/// would reset the connection and might take the reply with it.
const REST_PATIENCE: Duration = Duration::from_secs(1);
const REST_BYTES_MAX: usize = 64 * 1024;
/// After an accept that failed, for want of descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves for as long as it is polled.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("stats port: accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            admin.stats.bump(Stat::admin_refused);
            continue;
        };
        let admin = admin.clone();
        tokio::task::spawn(async move {
            if let Err(error) = one(stream, &admin).await {
                admin.stats.bump(Stat::admin_refused);
                tracing::debug!("stats port: {error}");
            }
            drop(place);
        });
    }
}

async fn one(mut stream: TcpStream, admin: &Admin) -> io::Result<()> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let line = timeout(REQUEST_PATIENCE, request_line(&mut stream)).await.map_err(late)??;
    if line.is_empty() {
        return Ok(());
    }
    admin.stats.bump(Stat::admin_requests);
    admin.stats.bump(Stat::stats_count);
    let reply = reply(&line, admin);
    timeout(REPLY_PATIENCE, stream.write_all(reply.as_bytes())).await.map_err(late)??;
    stream.shutdown().await?;
    let mut rest = [0; 4096];
    let _ = timeout(REST_PATIENCE, async {
        let mut taken = 0;
        while taken < REST_BYTES_MAX {
            match stream.read(&mut rest).await {
                Ok(0) | Err(_) => break,
                Ok(count) => taken += count,
            }
        }
    })
    .await;
    Ok(())
}

/// The first line, without its end. Headers are not waited for: nothing in them matters, and a `GET /info HTTP/1.1` by
/// hand has none. Empty: the connection was closed before anything came.
async fn request_line(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(512);
    let mut chunk = [0; 1024];
    loop {
        let count = stream.read(&mut chunk).await?;
        line.extend_from_slice(&chunk[..count]);
        if let Some(end) = memchr::memchr(b'\n', &line) {
            // An empty first line is somebody pressing return: still an answer, as to any nonsense.
            line.truncate(end.max(1));
            return Ok(line);
        }
        if count == 0 || line.len() > LINE_BYTES_MAX {
            return Ok(line);
        }
    }
}

/// The whole reply to a request line.
fn reply(line: &[u8], admin: &Admin) -> String {
    if line.len() > LINE_BYTES_MAX {
        let body = format!("refused: a request line has at most {LINE_BYTES_MAX} bytes\r\n");
        return full(&Answer::refused("414 URI Too Long", body));
    }
    let line = String::from_utf8_lossy(line);
    let mut words = line.split([' ', '\t', '\r']).filter(|word| !word.is_empty());
    let (method, path, version) = (words.next(), words.next(), words.next());
    let is_http = version.is_some_and(|version| version.starts_with("HTTP/1.0") || version.starts_with("HTTP/1.1"));
    let (Some(method), Some(path), true) = (method, path, is_http) else {
        let body = "refused: a request is GET /<path> HTTP/1.1; GET /help HTTP/1.1 says more\r\n";
        return full(&Answer::refused(BAD_REQUEST, body.to_owned()));
    };
    match method {
        "GET" => full(&admin.answer(path)),
        // A question only: what changes something must be asked for with GET.
        "HEAD" if DOCUMENTS.contains(&path) => head(&admin.answer(path), ""),
        method => {
            let method: String = method.chars().filter(|c| !c.is_control()).take(16).collect();
            let body = format!("refused: {method}; everything is asked for with GET, and documents with HEAD, too\r\n");
            let refused = Answer::refused("405 Method Not Allowed", body);
            let head = head(&refused, "Allow: GET, HEAD\r\n");
            if method == "HEAD" { head } else { head + &refused.body }
        }
    }
}

fn full(answer: &Answer) -> String {
    head(answer, "") + &answer.body
}

fn head(answer: &Answer, more: &str) -> String {
    let Answer { status, content_type, body } = answer;
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{more}Connection: close\r\n\r\n",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::super::endpoints::tests::admin;
    use super::*;

    fn check(line: &str, status: &str, body: &str) {
        let reply = reply(line.as_bytes(), &admin());
        let (head, got) = reply.split_once("\r\n\r\n").expect("a head");
        assert_eq!((head.lines().next(), got), (Some(format!("HTTP/1.1 {status}").as_str()), body), "{line:?}");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
        assert!(line.starts_with("HEAD") || length == body.len().to_string(), "{line:?}");
    }

    #[test]
    fn request_lines() {
        check("GET /ping HTTP/1.1\r", "200 OK", "OK\r\n");
        check("GET\t/get_timeout_factor\tHTTP/1.0", "200 OK", "Timeout factor: 1\n");
        check("GET /state/get_state?x=y HTTP/1.1", "200 OK", "State: NORMAL\n");
        check("HEAD /help HTTP/1.1", "200 OK", "");
        let usage = "refused: a request is GET /<path> HTTP/1.1; GET /help HTTP/1.1 says more\r\n";
        for line in
            ["GET /info", "GET /info HTTP/2.0", "HEAD /info", "GET", "", "\r", "\u{fffd}\0", "GET /state/standby HTT"]
        {
            check(line, "400 Bad Request", usage);
        }
        let method =
            |method| format!("refused: {method}; everything is asked for with GET, and documents with HEAD, too\r\n");
        check("POST /state/standby HTTP/1.1", "405 Method Not Allowed", &method("POST"));
        check("get /info HTTP/1.1", "405 Method Not Allowed", &method("get"));
        check("HEAD /state/standby HTTP/1.1", "405 Method Not Allowed", "");
        let long = format!("GET /{} HTTP/1.1", "x".repeat(LINE_BYTES_MAX));
        check(&long, "414 URI Too Long", "refused: a request line has at most 8192 bytes\r\n");
    }

    /// Runs `script` against a served port.
    fn with_port<F: Future<Output = ()>>(script: impl FnOnce(std::net::SocketAddr, Arc<Admin>) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let (address, admin) = (listener.local_addr().expect("bound"), Arc::new(admin()));
            tokio::select! {
                () = serve(listener, admin.clone()) => {}
                done = timeout(Duration::from_secs(20), script(address, admin)) => done.expect("in time"),
            }
        });
    }

    async fn ask(address: std::net::SocketAddr, pieces: &[&str]) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.set_nodelay(true).expect("nodelay");
        for piece in pieces {
            stream.write_all(piece.as_bytes()).await.expect("written");
            tokio::task::yield_now().await;
        }
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.expect("a whole reply, no reset");
        reply
    }

    async fn try_ask(address: std::net::SocketAddr, request: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.map(|_| reply)
    }

    #[test]
    fn a_silent_connection_blocks_nobody() {
        with_port(|address, _| async move {
            let _silent = TcpStream::connect(address).await.expect("connected");
            for pieces in [
                vec!["GET /ping HTTP/1.1\r\n\r\n"],
                vec!["GE", "T /pi", "ng HTTP/1.0\n"],
                vec!["GET /ping HTTP/1.1\r\nHost: x\r\nUser-Agent: y\r\n", "\r\n"],
            ] {
                assert!(ask(address, &pieces).await.ends_with("\r\n\r\nOK\r\n"), "{pieces:?}");
            }
        });
    }

    /// One request a connection: what comes behind it is not done, and does not harm the answer. Nor is half of one done.
    #[test]
    fn pipelines_and_halves() {
        with_port(|address, admin| async move {
            let two = "GET /state/get_state HTTP/1.1\r\n\r\nGET /state/standby HTTP/1.1\r\n\r\n";
            assert!(ask(address, &[two]).await.ends_with("\r\n\r\nState: NORMAL\n"));
            for end in 0.."GET /state/standby HTTP/1.".len() {
                let mut stream = TcpStream::connect(address).await.expect("connected");
                stream.write_all(&"GET /state/standby HTTP/1.".as_bytes()[..end]).await.expect("written");
                stream.shutdown().await.expect("half closed");
                let mut reply = String::new();
                stream.read_to_string(&mut reply).await.expect("a whole reply, no reset");
                assert!(end == 0 && reply.is_empty() || reply.starts_with("HTTP/1.1 400 "), "{end}: {reply}");
            }
            assert_eq!(admin.control.state(), crate::control::NodeState::Normal);
        });
    }

    #[test]
    fn a_line_without_an_end_is_answered_and_closed() {
        with_port(|address, admin| async move {
            let long = "G".repeat(LINE_BYTES_MAX + 1);
            assert!(ask(address, &[&long]).await.starts_with("HTTP/1.1 414 "));
            assert_eq!(admin.registry.total(Stat::admin_requests), 1);
        });
    }

    #[test]
    fn more_than_the_limit_are_closed_and_counted() {
        with_port(|address, admin| async move {
            let mut held = Vec::new();
            for _ in 0..=CONNECTIONS_MAX {
                held.push(TcpStream::connect(address).await.expect("connected"));
            }
            let last = held.last_mut().expect("some");
            assert_eq!(last.read(&mut [0; 8]).await.ok().unwrap_or(0), 0, "closed");
            assert_eq!(admin.registry.total(Stat::admin_refused), 1);
            held.clear();
            // Places come back as the closed ones are noticed; the script has its own deadline.
            while !try_ask(address, "GET /ping HTTP/1.1\r\n\r\n").await.is_ok_and(|reply| reply.ends_with("OK\r\n")) {
                tokio::task::yield_now().await;
            }
        });
    }
}
