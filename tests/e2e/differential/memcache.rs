//! memcached's commands, classic and meta, with random arguments: through the node the bytes are what a memcached asked directly says.

use dynomite_tests::{Client, Datastore, Node, Random, random};

/// The words of each command. `K` a key, `N` a number, `F` flags, `T` a time, `U` a cas unique, `+` the word before it again, some times;
/// `D` data on a line of its own, with `L` its length; `?` the word before it maybe; `M` a meta flag.
const FORMS: &[&str] = &[
    "get K +",
    "gets K +",
    "gat T K +",
    "gats T K +",
    "set K F T L noreply ? D",
    "add K F T L noreply ? D",
    "replace K F T L noreply ? D",
    "append K F T L noreply ? D",
    "prepend K F T L noreply ? D",
    "cas K F T L U noreply ? D",
    "incr K N noreply ?",
    "decr K 0 noreply ?",
    "touch K T noreply ?",
    "delete K noreply ?",
    "delete K 0",
    "mg K M +",
    "mg K",
    "ms K L M + D",
    "ms K L D",
    "md K M +",
    "ma K M +",
    "ma K",
    "ma K N50000 J5 v",
    "mn",
    "version",
    "verbosity 0",
    "flush_all",
    "flush_all noreply",
    "flush_all 0",
    "nonsense K",
    "get",
    "set K",
    "incr K x",
    "GET K",
];

// Numbers never get shorter here: whether memcached then pads them depends on whether somebody still reads the item.

/// Flags that each meta command knows, with what follows them. Times and hit counts are compared elsewhere.
fn meta_flags(command: &str) -> &'static [&'static str] {
    match command {
        "mg" => &["v", "k", "f", "s", "c", "q", "Oabc", "N50000", "T60000", "R30", "E77", "zz"],
        "ms" => &["k", "c", "q", "F7", "T50000", "T0", "ME", "MA", "MP", "MR", "MS", "I", "C3", "Oq1", "MX"],
        "md" => &["k", "q", "I", "T40000", "C3", "Oq2", "b"],
        // Not N with q: memcached 1.6 says of an item made by `ma` what it should keep to itself.
        _ => &["k", "v", "c", "q", "J5", "D3", "T50000", "MI", "M+", "Oq3"],
    }
}

#[test]
fn memcached_answers_are_those_of_memcached() {
    let (Some(behind), Some(alone)) = (Datastore::memcached(), Datastore::memcached()) else { return };
    let node = Node::before(&behind);
    let mut random = Random::from_seed(random::seed());
    let (mut through, mut direct) = (node.client(), alone.client());
    for _ in 0..600 {
        let mut requests = Vec::new();
        for _ in 0..1 + random.below(24) {
            // Flushes are seldom: they leave nothing to work on.
            let form = FORMS[random.below(FORMS.len())];
            if !form.starts_with("flush_all") || random.one_in(8) {
                requests.push(make(form, &mut random));
            }
        }
        let bytes = [requests.concat(), b"mn\r\n".to_vec()].concat();
        let mut cuts: Vec<usize> = (0..random.below(4)).map(|_| random.below(bytes.len())).collect();
        cuts.sort_unstable();
        direct.send(&bytes);
        through.send_cut(&bytes, &cuts);
        let (expected, got) = (answers(&mut direct, &requests), answers(&mut through, &requests));
        let sent: Vec<String> =
            requests.iter().map(|request| request[..request.len().min(80)].escape_ascii().to_string()).collect();
        assert!(
            expected == got,
            "{}\nmemcached says {}\nthe node says  {}",
            sent.join("\n"),
            expected.escape_ascii(),
            got.escape_ascii()
        );
    }
}

/// Everything up to the answer to the last `mn`.
fn answers(client: &mut Client, requests: &[Vec<u8>]) -> Vec<u8> {
    let barriers = 1 + requests.iter().filter(|request| request.starts_with(b"mn")).count();
    let mut all = Vec::new();
    for _ in 0..barriers {
        while !all.ends_with(b"MN\r\n") {
            all.extend_from_slice(&client.memcache_reply());
        }
        all.push(b'\n');
    }
    all
}

fn make(form: &str, random: &mut Random) -> Vec<u8> {
    let data = data(random);
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut block = Vec::new();
    let mut before = "";
    for word in form.split(' ') {
        match word {
            "?" if random.one_in(4) => {}
            "?" => _ = words.pop(),
            "+" => (0..random.below(4)).for_each(|_| words.push(value(before, form, &data, random))),
            "D" => block = [data.as_slice(), b"\r\n"].concat(),
            _ => words.push(value(word, form, &data, random)),
        }
        before = word;
    }
    // One flag of a kind: which of two mistakes is complained of first is nobody's business.
    let mut kinds = Vec::new();
    words.retain(|word| {
        let flag =
            form.starts_with('m') && !word.starts_with(b"m") && !word.starts_with(b"key") && !word[0].is_ascii_digit();
        !flag
            || !kinds.contains(&word[0]) && {
                kinds.push(word[0]);
                true
            }
    });
    [words.join(&b' '), b"\r\n".to_vec(), block].concat()
}

fn value(word: &str, form: &str, data: &[u8], random: &mut Random) -> Vec<u8> {
    let text = match word {
        // Not before data, which memcached would take for commands, nor in `get`, where memcached 1.6 forgets what it was about to answer.
        "K" if !form.contains('D') && !form.starts_with('g') && random.one_in(60) => "x".repeat(251),
        "K" => format!("key{}", random.below(8)),
        "N" => random.pick(&["1", "5", "100"]).to_string(),
        "F" => random.pick(&["0", "1", "4294967295"]).to_string(),
        "T" => random.pick(&["0", "0", "50000", "-1"]).to_string(),
        "U" => random.between(1, 40).to_string(),
        "L" => data.len().to_string(),
        "M" => random.pick(meta_flags(&form[..2])).to_string(),
        word => word.to_string(),
    };
    text.into_bytes()
}

fn data(random: &mut Random) -> Vec<u8> {
    match random.below(12) {
        0 => Vec::new(),
        1 => b"END\r\nVALUE x 0 1".to_vec(),
        2 => vec![b'v'; 20_000],
        3 => random.bytes(40),
        4..9 => random.between(10, 99).to_string().into_bytes(),
        _ => b"hello".to_vec(),
    }
}
