//! Medians, ratios within a round, their spread; as a table for people and a document for programs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::machine;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    PerSecond,
    Microseconds,
    Bytes,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Unit::PerSecond if value >= 1e6 => format!("{:.2}M/s", value / 1e6),
            Unit::PerSecond => format!("{:.1}k/s", value / 1e3),
            Unit::Microseconds => format!("{value:.1} µs"),
            Unit::Bytes => format!("{value:.0} B"),
        }
    }
}

/// One round's values of one measurement, one for each place.
pub struct Measured {
    pub name: String,
    pub unit: Unit,
    pub values: Vec<Option<f64>>,
}

pub struct Report {
    title: String,
    places: Vec<&'static str>,
    rounds: usize,
    time: Duration,
    /// How busy the machine was before anything was measured.
    busy: f64,
    /// In the order in which they were first measured.
    tasks: Vec<(String, Unit, Vec<Measured>)>,
}

impl Report {
    pub fn new(title: &str, places: Vec<&'static str>, rounds: usize, time: Duration, busy: f64) -> Report {
        Report { title: title.to_string(), places, rounds, time, busy, tasks: Vec::new() }
    }

    pub fn add(&mut self, measured: Measured) {
        match self.tasks.iter_mut().find(|(name, ..)| *name == measured.name) {
            Some((_, _, rounds)) => rounds.push(measured),
            None => self.tasks.push((measured.name.clone(), measured.unit, vec![measured])),
        }
    }

    /// One round in a line.
    pub fn line(&self, measured: &Measured) -> String {
        let values = self.places.iter().zip(&measured.values);
        let shown: Vec<String> = values
            .map(|(place, value)| format!("{place} {}", value.map_or("-".into(), |value| measured.unit.show(value))))
            .collect();
        format!("{}: {}", measured.name, shown.join(", "))
    }

    pub fn table(&self) -> String {
        let mut text = format!(
            "{}; {:.0} % busy with other work before. Medians of {} rounds of {:.1} s, places taking turns; in brackets the ratio to the first place of the same round, median and spread.\n\n",
            machine::describe(),
            self.busy * 100.0,
            self.rounds,
            self.time.as_secs_f64()
        );
        text.push_str(&format!("| load | {} |\n|---|{}\n", self.places.join(" | "), "---|".repeat(self.places.len())));
        for (name, unit, rounds) in &self.tasks {
            let cells: Vec<String> = (0..self.places.len()).map(|place| cell(*unit, rounds, place)).collect();
            text.push_str(&format!("| {name} | {} |\n", cells.join(" | ")));
        }
        text
    }

    /// Prints the table, writes it and the numbers behind it below `directory`, and puts it into the file of what is known.
    pub fn finish(&self, directory: &Path, save: Option<&Path>) -> Result<()> {
        let table = self.table();
        println!("\n## {}\n\n{table}", self.title);
        fs::create_dir_all(directory)?;
        let numbers = self.tasks.iter().map(|(name, unit, rounds)| {
            let values: Vec<_> = rounds.iter().map(|round| &round.values).collect();
            json!({ "name": name, "unit": format!("{unit:?}"), "rounds": values })
        });
        let document =
            json!({ "machine": machine::describe(), "places": self.places, "measured": numbers.collect::<Vec<_>>() });
        let file = directory.join(format!("{}.json", self.title.to_lowercase().replace([' ', ','], "-")));
        fs::write(file, serde_json::to_string_pretty(&document)?)?;
        if let Some(file) = save {
            let before = fs::read_to_string(file).unwrap_or_else(|_| "# Measured\n".into());
            fs::write(file, put(&before, &self.title, &format!("`cargo xtask bench {}`\n\n{table}", command())))?;
        }
        Ok(())
    }
}

/// How this was asked for, without where things lie on this machine.
fn command() -> String {
    let words = std::env::args().skip(1).map(|word| if word.starts_with('/') { "PATH".into() } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// The document with this section in place of the one of the same title, or behind all others.
fn put(document: &str, title: &str, body: &str) -> String {
    let section = format!("## {title}\n\n{}\n", body.trim_end());
    let (head, sections) =
        document.split_once("\n## ").map_or((document, String::new()), |(head, rest)| (head, format!("\n## {rest}")));
    let mut sections: Vec<String> =
        sections.split("\n## ").skip(1).map(|section| format!("## {}\n", section.trim_end())).collect();
    match sections.iter().position(|section| section.starts_with(&format!("## {title}\n"))) {
        Some(place) => sections[place] = section,
        None => sections.push(section),
    }
    format!("{}\n\n{}", head.trim_end(), sections.join("\n"))
}

fn cell(unit: Unit, rounds: &[Measured], place: usize) -> String {
    let values: Vec<f64> = rounds.iter().filter_map(|round| round.values[place]).collect();
    if values.is_empty() {
        return "–".into();
    }
    let shown = unit.show(median(values));
    let ratios: Vec<f64> = rounds.iter().filter_map(|round| Some(round.values[place]? / round.values[0]?)).collect();
    if place == 0 || ratios.is_empty() {
        return shown;
    }
    let (least, most) =
        ratios.iter().fold((f64::MAX, 0.0_f64), |(least, most), ratio| (least.min(*ratio), most.max(*ratio)));
    format!("{shown} ({:.2}, {least:.2}–{most:.2})", median(ratios))
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::put;

    #[test]
    fn sections_are_replaced_or_appended() {
        let first = put("# Measured\n", "A", "one\n");
        assert_eq!(first, "# Measured\n\n## A\n\none\n");
        let both = put(&first, "B", "two");
        assert_eq!(both, "# Measured\n\n## A\n\none\n\n## B\n\ntwo\n");
        assert_eq!(put(&both, "A", "three"), "# Measured\n\n## A\n\nthree\n\n## B\n\ntwo\n");
    }
}
