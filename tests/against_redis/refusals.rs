//! What we refuse ourselves is refused in Redis' words, and nothing else is.

use dynomite_tests::samples::SAMPLES;
use dynomite_tests::{Client, Random, random, resp};
use dynomite_user::protocol::resp::commands::COMMANDS;

fn redis_says(client: &mut Client, frame: &[u8]) -> String {
    client.send(frame);
    client.frame().escape_ascii().to_string()
}

fn we_say(frame: &[u8]) -> Option<String> {
    super::decode(frame, |_| ()).err().map(|error| error.escape_ascii().to_string())
}

#[test]
fn the_same_error_for_the_same_mistake() {
    let Some(redis) = super::redis(&[]) else { return };
    let mut client = redis.client();
    let long = "x".repeat(300);
    let cases: &[&[&[u8]]] = &[
        &[b"FOO"],
        &[b""],
        &[b"foo", b"a", b"b\r\nc"],
        &[b"fo\0o", b"a\0b", b"c"],
        &[long.as_bytes(), long.as_bytes(), b"b"],
        &[b"foo", &long.as_bytes()[..120], long.as_bytes()],
        &[b"foo", &long.as_bytes()[..125], b"abc", b"def"],
        &[b"config"],
        &[b"CONFIG", b"nothing", b"x"],
        &[b"config", long.as_bytes()],
        &[b"Command", b"no\rthing"],
        &[b"mset", b"a"],
        &[b"mset", b"a", b"b", b"c"],
        &[b"msetnx", b"a", b"b", b"c"],
    ];
    for words in cases {
        let frame = resp::request(*words);
        assert_eq!(we_say(&frame), Some(redis_says(&mut client, &frame)), "{}", frame.escape_ascii());
    }
}

/// Too few arguments and too many, for every row that Redis has as well.
#[test]
fn the_same_error_for_wrong_numbers_of_arguments() {
    let Some(redis) = super::redis(&[]) else { return };
    let mut client = redis.client();
    for row in COMMANDS.iter() {
        let ours =
            ["json.", "dyno_config", "client setinfo", "client no-touch"].iter().any(|ours| row.name.starts_with(ours));
        let turned = row.name.ends_with(" store") || row.name.ends_with(" block");
        // EXEC says it with a code of its own.
        if ours || turned || row.name == "exec" {
            continue;
        }
        let words: Vec<&str> = row.name.split(' ').collect();
        let arity = usize::from(row.arity.unsigned_abs());
        let wrong = if row.arity > 0 { vec![arity - 1, arity + 1] } else { vec![arity - 1] };
        for count in wrong.into_iter().filter(|&count| count >= words.len()) {
            let request = words.iter().copied().chain(std::iter::repeat("x")).take(count);
            let frame = resp::request(request);
            assert_eq!(we_say(&frame), Some(redis_says(&mut client, &frame)), "{}", frame.escape_ascii());
        }
    }
}

/// What Redis would answer with anything but our words is not ours to refuse.
#[test]
fn nothing_else_is_refused() {
    let Some(redis) = super::redis(&[]) else { return };
    let mut client = redis.client();
    let mut random = Random::from_seed(random::seed());
    for sample in SAMPLES {
        for _ in 0..30 {
            let frame = resp::request(sample.request(&mut random));
            if let Some(error) = we_say(&frame) {
                assert_eq!(error, redis_says(&mut client, &frame), "{}", frame.escape_ascii());
            }
        }
    }
}
