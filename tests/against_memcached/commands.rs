//! Lines a memcached client may send, well-formed and not: a list to try one by one, and a source of random ones.

use dynomite_tests::Random;

/// Every command, every flag and every mistake that memcached answers in its own way. `|` stands for CR LF.
pub const LINES: &str = "
get|get a|get a b a|get  a  |  get a|gets|gets a|gets a b|gat|gat 0|gat 0 a b|gat x a|gat -1 a|get a|gats 100 a b|GET a||
get noreply|gat 0 noreply|bogus|bogus a b c|mnx|versionx
set a 0 0 3|abc|get a|set a 1 0 3|abcd|get a|set a 1 0 3|ab|get a|set a 0 0 0||get a|set a 0 0 3 noreply|def|get a
set a 0 0 3 noreply|defg|get a|set a 0 0 3 junk|ghi|get a|set a 0 0 3 noreply junk|abc|set a 0 0|abc|set a|set
set a 0 0 -1|abc|set a 0 0 x|abc|set a x 0 3|abc|set a 0 x 3|abc|set a -1 0 3|abc|set a 0 0 3x|abc|set a 0 0 03|abc|get a
set a 4294967295 0 1|x|get a|set a 4294967297 0 1|x|get a|set a 18446744073709551615 0 1|x|get a|set a 18446744073709551616 0 1|x|set a 0 -1 1|x|get a|set a +5 +0 +1|x|get a|set a 0 0 2147483647|abc|set a 0 99999999999 1|x|get a
set a 0 0 x noreply|abc|set a 0 0 -1 noreply|abc|set a 0 0 2147483646|abc|set  a  0  0  1  |x|set a 0 0 1 noreply |x|get a
set a 0 0 1 NOREPLY|x|set a 0 0 1 x y|x|set a 0 2592001 1|x|get a|set a 0 2592000 1|x|get a
add a 0 0 1|x|add a 0 0 1|y|get a|replace a 0 0 1|z|replace zz 0 0 1|z|append a 0 0 1|1|prepend a 9 9 1|0|get a|append zz 0 0 1|x
add zz 0 0 1 noreply|x|delete zz|add a 0 0 1 noreply|x|get a
cas a 0 0 1 999999|x|cas zz 0 0 1 1|x|cas a 0 0 1|x|cas a 0 0 1 x|x|cas a 0 0 1 999999 noreply|x|cas a 0 0 1 noreply|x|cas a 0 0 1 1 x|x
cas a 0 0 1 -1|x|cas a 0 0 1 1 x y|x
set n 0 0 1|5|incr n 3|decr n 2|decr n 100|incr n 18446744073709551615|incr n 1|incr n|incr n x|incr n -1|incr zz 1
incr zz 1 noreply|incr n 2 noreply|get n|incr n x noreply|incr n 1 0|incr n 1 0 0|incr n 18446744073709551616|incr n +4|decr n 1|get n
set s 0 0 3|abc|incr s 1|incr s 1 noreply|decr s 1|incr n 1 noreply noreply
touch a 0|touch a|touch a x|touch a 0 noreply|touch a noreply|touch zz 0|touch a 0 0|touch a 0 0 0|touch a -1|get a|touch a 1x|touch
set a 0 0 1|x|delete a 0|delete a 0|delete a 1|delete a 0 noreply|set a 0 0 1|x|delete a noreply|get a|delete a noreply noreply|delete
delete noreply|delete a b|delete a 00|delete a 0 0|delete a b c d|delete a b noreply
verbosity|verbosity 0|verbosity x|verbosity 0 noreply|verbosity noreply|verbosity 0 1|verbosity 0 1 2|version|version x
flush_all|flush_all 0|flush_all x|flush_all noreply|flush_all 0 noreply|flush_all 0 0|flush_all 0 0 0|flush_all +0|flush_all x noreply
cache_memlimit|cache_memlimit 64|cache_memlimit x|cache_memlimit 64 noreply|cache_memlimit 1|shutdown|shutdown x
stats foo|stats sizes|stats noreply|stats cachedump|stats detail|stats detail dump|stats reset|stats detail on|stats detail off
mg|mg |mg a|mg a v|mg a q|mg a q k O1|mg a v k O1|ms a 3|abc|mg a v|mg a|mg a k|mg a q|mg a v q|mg a v f k c O1 q t s|mg a h l u
ms a 3 T0 F5 c k Ox q|abc|ms a 3 c k Ox|abc|ms a S3|abc|ms a|ms|ms a x|abc|ms a -1|abc|ms a 3x|abc|ms a 3|abcd|ms a 3 q|abcd
ms a 3 MZ|abc|ms a 3 q MZ|abc|ms a 3 ME|abc|ms a 3 ME k Oabc q|abc|ms a 3 MA|abc|ms a 3 MP q|abc|mg a v|ms a 3 MR|abc|ms zz 3 MR q|abc
ms a 3 Fx|abc|ms a 3 Tx|abc|ms a 3 T-1|abc|mg a v|ms a 3 C999999|abc|ms a 3|abc|ms a 3 C999999 q|abc|ms a 3 Cx|abc|ms a 3 q q|abc
mg a q q|mg a y|mg a Y|mg a vv|mg a kv|mg a kq|mg a qfoo|mg  a  k  v |mg a Oaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa|mg a O|mg zz q vq
ms Zm9v 3 b k|abc|mg Zm9v b k v|mg foo v k|get foo|mg Zm9 b k v|mg !!! b k v|ms !!! 3 b k|abc|ms Zm9v 3 b k q|abc|mg Zh== b k|mg ==== b
md a|md zz|md zz q|md zz k O1|md zz k O1 q|ms a 1|1|md a q|ms a 1|1|md a k O1|ms a 1|1|md a C1|md a C1 q|md a I T30|mg a v|mg a v
md zz q q|md|ma|ma zz|ma zz q|ma zz q k O3|ma n1 N0 J13 v|ma n1 v t c k O1|ma n1 D10 MD v|ma n1 q|ma n1 q v|ma n1 M- D1000 v|ma n1 Mx
ma n1 Dx|md a b|ma a b|ma n1 Jx|ma n1 q Mx|get n1|ms s 3|abc|ma s|ma s q
mn|mn x|mn q|me a|me zz|me|me zz q|me zz k O1|me Zm9v b|me Zm9 b|mx a|md a E5|ma a E5|ms a 2 E5|hi|mg a E5
mg vv N30 v|mg vv N30 v|md vv|mg vv N30 v q k|mg vv N30 v q k|md vv|mg vv N30 q|mg vv N30 q|md vv q|mg a P/x Lfoo|ms a 2 Px Lx|hi|mg a Px Lx q k
ms a 2 I|hi|ms a 2 b|hi|ma a x|md a x|mg a 0|mg a -|ms a 1 T|x|ms a 1 F|x|ms a 1 O|x|ms a 1 M|x|ms a 1 MSfoo|x|ms a 1 c c|x|ms a +1|x
ms a 1 qq|x|ms a 1 qk k|x|ms Zm9v 1 c k b s t f h l N0 E5 I x|x|ms a 1 k q k|x
ms a 1 c k O1 s f t h l u v E N x y z|x|ms a 1 c k O1 s f t h l u v E N x y z w|x
";

/// What counters are set to. memcached reads behind the end of an empty item when it is to count with it, and it may or may
/// not leave blanks where a number becomes shorter: neither is met here.
const COUNTS: [&str; 4] = ["50000", "70001", "12x", "90000000"];

/// A command line as `LINES` spells it, often good, sometimes not, now and then with data that do not fit.
pub fn random(random: &mut Random) -> String {
    let key = |random: &mut Random| random.pick(&["a", "b", "c", "n", "Zm9v", "noreply"]).to_string();
    let number = |random: &mut Random| {
        random.pick(&["0", "1", "2", "7", "+1", "007", "-1", "x", "99999999999999999999"]).to_string()
    };
    let noreply = |random: &mut Random| if random.one_in(3) { " noreply" } else { "" };
    match random.below(17) {
        0 | 1 => {
            let name = random.pick(&["get", "gets", "get"]);
            let keys: Vec<String> = (0..1 + random.below(4)).map(|_| key(random)).collect();
            format!("{name} {}|", keys.join(" "))
        }
        2 => format!("{} {} {}|", random.pick(&["gat", "gats"]), random.pick(&["0", "100", "x"]), key(random)),
        3..=5 => {
            let name = random.pick(&["set", "set", "add", "replace", "append", "prepend"]);
            let (key, data) = pair(random);
            let flags = random.pick(&["5", "5", "5", "007", "+1", "4294967295", "4294967298", "-1", "x"]);
            let time = random.pick(&["0", "0", "0", "100", "-1", "2592001", "+100"]);
            format!("{name} {key} {flags} {time} {}{}|{data}|", len(&data, random), noreply(random))
        }
        6 => {
            let (key, data) = pair(random);
            let cas = if random.one_in(3) { number(random) } else { (1 + random.below(300)).to_string() };
            format!("cas {key} 0 0 {} {cas}{}|{data}|", len(&data, random), noreply(random))
        }
        7 => format!("{} n {}{}|", random.pick(&["incr", "decr"]), number(random), noreply(random)),
        // No time that passes while the test runs: two memcacheds do not look at their clocks at the same moment.
        8 => format!("touch {} {}{}|", key(random), random.pick(&["0", "100", "-1", "+100", "x"]), noreply(random)),
        9 => format!("delete {}{}{}|", key(random), random.pick(&["", "", " 0", " 1"]), noreply(random)),
        10 | 11 => {
            let key = random.pick(&["a", "b", "Zm9v"]);
            meta("mg", key, "", "v v v k f c s q q u b Oo Ox T100 T0 N100 R30", "Z y", random)
        }
        12 | 13 => {
            let (key, data) = pair(random);
            let len = format!(" {}", data.replace('|', "\r\n").len());
            meta("ms", key, &len, "q q k c b Oo T0 T100 T-1 F5 I C5 C100 MS ME MA MP MR", "MX Fx", random) + &data + "|"
        }
        14 => meta("md", &key(random), "", "q q k b Oo C5 I T100", "x", random),
        // With N and q together memcached tells that it created a counter, but not that it changed one: we tell neither.
        15 => {
            let with = random.pick(&["N0 N100 J70000", "q q"]);
            let key = random.pick(&["n", "bg=="]); // the same
            meta("ma", key, "", &format!("{with} b k c v v Oo C5 D5 MI MD M- T0"), "Dx", random)
        }
        _ => random
            .pick(&[
                "mn|",
                "bogus|",
                "version|",
                "verbosity 0|",
                "me zz|",
                "  |",
                "get|",
                "mg|",
                "flush_all|",
                "ms a 3|ab|",
                "ms a 3 q k|abcd|",
                "ma n N0 J50000 v|",
            ])
            .to_string(),
    }
}

/// A key, and data of its kind.
fn pair(random: &mut Random) -> (&'static str, String) {
    if random.one_in(3) {
        return ("n", random.pick(&COUNTS).to_string());
    }
    let long = "x".repeat(random.below(1500));
    let data = random.pick(&["", "1", "17", "abc", "END", "|", "VALUE a 0 1", &long]).to_string();
    (random.pick(&["a", "b", "c", "Zm9v", "noreply"]), data)
}

/// A meta command, with or without flags that it does not know.
fn meta(name: &str, key: &str, len: &str, good: &str, bad: &str, random: &mut Random) -> String {
    let mut all: Vec<&str> = good.split(' ').collect();
    // Of two mistakes memcached names one: not always the one that we name.
    if random.one_in(8) {
        all = bad.split(' ').chain(all).filter(|flag| !matches!(*flag, "b" | "q")).collect();
    }
    let mut flags: String = (0..random.below(6)).map(|_| format!(" {}", random.pick(&all))).collect();
    if !matches!(key, "Zm9v" | "bg==") && flags.contains(" b") {
        flags = " b".into();
    }
    // In base64 it is the counter; as it stands it is another key, which nothing else counts with.
    if key == "bg==" && !flags.contains(" b") {
        flags += " b";
    }
    format!("{name} {key}{len}{flags}|")
}

/// The length of the data as they go out, or now and then something else.
fn len(data: &str, random: &mut Random) -> String {
    let len = data.replace('|', "\r\n").len();
    match random.below(30) {
        0 => (len + 1).to_string(),
        1 => len.saturating_sub(1).to_string(),
        2 => format!("+{len}"),
        3 => "-1".into(),
        _ => len.to_string(),
    }
}
