//! Scripts as C nodes get them, against the same scripts as they came: the same reply in the end, and on the way nothing
//! that a C node would lose its place over.

use dynomite_tests::resp;
use dynomite_user::protocol::c_peer::{envelop, unveil};

const SCRIPTS: &[&str] = &[
    "return 1",
    "return 'text'",
    "return '*2\\r\\n:1\\r\\n:2\\r\\n'",
    "return nil",
    "return",
    "local x = 5 -- a comment",
    "return true",
    "return false",
    "return 3.99",
    "return -3.99",
    "return {}",
    "return {1, 2.5, 'three', false, true, {}}",
    "return {{1, 2}, 3}",
    "return {1, nil, 3}",
    "return {{{{'deep'}}}, {KEYS[1], ARGV[1]}}",
    "return {ok = 'FINE'}",
    "return {err = 'BAD thing'}",
    "return redis.error_reply('MY error')",
    "return {err = 'BAD'}",
    "return {err = 'BAD', ok = 'FINE'}",
    "return {err = ''}",
    "return redis.error_reply('BAD')",
    "return redis.error_reply('-BAD')",
    "return redis.status_reply('PONG')",
    "return {redis.status_reply('PONG'), {redis.error_reply('MY error')}}",
    "return {{err = 'several\\r\\nlines'}, {ok = 'a\\nb'}}",
    "return {err = 5, 1, {2}}",
    "return {double = 1.5}",
    "return {{double = 1.5}, {big_number = '12345678901234567890'}, {verbatim_string = {format = 'txt', string = 'x'}}}",
    "return {map = {a = {1, 2}}}",
    "return {{map = {a = {1, 2}}}, {set = {x = true}}}",
    "redis.call('del', KEYS[1]); redis.call('rpush', KEYS[1], 'a', 'b'); return {redis.call('lrange', KEYS[1], 0, -1), 1}",
    "return redis.pcall('lrange')",
    "return redis.pcall('get', KEYS[1])",
    "#!lua flags=no-writes\nreturn {{1}, KEYS[1]}",
    "if ARGV[1] == 'a' then return {{1}} end return 2",
    "return #{1, 2, 3}, 7",
    "local function f() return {f2 = 1, {9}} end return f()",
];

#[test]
fn the_reply_in_the_end_is_the_scripts_own() {
    let Some(redis) = super::redis(&[]) else { return };
    let mut client = redis.client();
    for script in SCRIPTS {
        let frame = resp::request(["eval", script, "1", "k", "a", "b"]);
        let mut enveloped = Vec::new();
        super::decode(&frame, |request| envelop(&request, &mut enveloped)).expect("a request");
        client.send(&frame);
        let plain = client.frame();
        client.send(&enveloped);
        let reply = client.frame();
        assert_eq!(unveil(&reply).escape_ascii().to_string(), plain.escape_ascii().to_string(), "{script}");
        let nests = reply.starts_with(b"*") && !reply.starts_with(b"*1\r\n$");
        assert!(!nests, "{script}: {}", reply.escape_ascii());
        assert!(!reply.starts_with(b"-") || reply.contains(&b' '), "{script}: {}", reply.escape_ascii());
    }
    // An error inside of the script names the script that ran, so only how it begins is the same.
    for script in ["return redis.call('lrange')", "error('x')", "return no_such_thing", "return ("] {
        let frame = resp::request(["eval", script, "1", "k"]);
        let mut enveloped = Vec::new();
        super::decode(&frame, |request| envelop(&request, &mut enveloped)).expect("a request");
        client.send(&enveloped);
        assert!(client.frame().starts_with(b"-ERR "), "{script}");
    }
}
