//! Prometheus' text format, held to its rules: what scrapers refuse, and what they merely take badly.

use std::collections::{BTreeMap, BTreeSet, HashSet};

/// A name's kind, and the names of the labels that all its samples have.
#[derive(Default)]
struct Family {
    kind: String,
    labels: Option<BTreeSet<String>>,
}

/// Each sample's name and labels, as written, with its value. Panics where the text breaks a rule.
#[track_caller]
pub fn samples(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'), "the last line has no end");
    let (mut families, mut samples) = (BTreeMap::<String, Family>::new(), BTreeMap::new());
    let (mut current, mut helped) = (String::new(), HashSet::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap_or_else(|| panic!("no words: {line}"));
            assert!(helped.insert(name.to_owned()), "a second HELP: {line}");
            assert!(!words.trim().is_empty() && !words.contains('\\'), "{line}");
            current.clear();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
            assert!(matches!(kind, "counter" | "gauge" | "summary"), "{line}");
            assert!(helped.contains(name), "TYPE without HELP before it: {line}");
            let family = Family { kind: kind.to_owned(), labels: None };
            assert!(families.insert(name.to_owned(), family).is_none(), "a second TYPE: {line}");
            current = name.to_owned();
        } else {
            let (name, labels, value) = sample(line);
            let family = families.get_mut(&current).unwrap_or_else(|| panic!("a sample without TYPE: {line}"));
            let suffix = name.strip_prefix(&current).unwrap_or_else(|| panic!("not of {current}: {line}"));
            let is_quantile = labels.contains_key("quantile");
            match family.kind.as_str() {
                "summary" => {
                    assert!(matches!((suffix, is_quantile), ("_sum" | "_count", false) | ("", true)), "{line}")
                }
                kind => assert!(suffix.is_empty() && !is_quantile, "{line}: a {kind}"),
            }
            assert!(family.kind != "counter" || name.ends_with("_total") && value >= 0.0, "{line}: a counter");
            let names: BTreeSet<String> = labels.keys().filter(|label| *label != "quantile").cloned().collect();
            let first = family.labels.get_or_insert_with(|| names.clone());
            assert_eq!(*first, names, "labels differ within {current}: {line}");
            let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
            assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {series}");
        }
    }
    for (name, family) in &families {
        assert!(family.labels.is_some(), "{name} has no samples");
        for suffix in ["_sum", "_count"] {
            let derived = format!("{name}{suffix}");
            assert!(family.kind != "summary" || !families.contains_key(&derived), "{derived} is two families");
        }
    }
    samples
}

/// Name, labels and value of one line.
fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let end = line.find('{').unwrap_or_else(|| panic!("no labels: {line}"));
    let name = &line[..end];
    let is_name = |name: &str, more: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || more.contains(c))
    };
    assert!(is_name(name, ":"), "a name: {line}");
    let mut labels = BTreeMap::new();
    let mut rest = &line[end + 1..];
    while !rest.starts_with('}') {
        let (label, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("a label: {line}"));
        assert!(is_name(label, "") && !label.starts_with("__"), "a label's name: {line}");
        let (mut text, mut chars) = (String::new(), value.char_indices());
        let end = loop {
            match chars.next() {
                Some((at, '"')) => break at,
                Some((_, '\\')) => match chars.next() {
                    Some((_, c @ ('\\' | '"' | 'n'))) => text.push(c),
                    other => panic!("escaped {other:?}: {line}"),
                },
                Some((_, c)) => text.push(c),
                None => panic!("a label without an end: {line}"),
            }
        };
        assert!(labels.insert(label.to_owned(), text).is_none(), "label {label} twice: {line}");
        rest = &value[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    let value = rest.strip_prefix("} ").unwrap_or_else(|| panic!("one blank before the value: {line}"));
    (name.to_owned(), labels, value.parse().unwrap_or_else(|_| panic!("a value: {line}")))
}
