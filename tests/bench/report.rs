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
    places: Vec<&'static str>,
    rounds: usize,
    time: Duration,
    /// How busy the machine was before anything was measured.
    busy: f64,
    /// In the order in which they were first measured.
    tasks: Vec<(String, Unit, Vec<Measured>)>,
}

impl Report {
    pub fn new(places: Vec<&'static str>, rounds: usize, time: Duration, busy: f64) -> Report {
        Report { places, rounds, time, busy, tasks: Vec::new() }
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

    /// Prints the table and writes it, and the numbers behind it, below `directory`.
    pub fn finish(&self, directory: &Path, save: Option<&Path>) -> Result<()> {
        let table = self.table();
        println!("\n{table}");
        fs::create_dir_all(directory)?;
        let numbers = self.tasks.iter().map(|(name, unit, rounds)| {
            let values: Vec<_> = rounds.iter().map(|round| &round.values).collect();
            json!({ "name": name, "unit": format!("{unit:?}"), "rounds": values })
        });
        let document =
            json!({ "machine": machine::describe(), "places": self.places, "measured": numbers.collect::<Vec<_>>() });
        fs::write(directory.join("results.json"), serde_json::to_string_pretty(&document)?)?;
        fs::write(directory.join("results.md"), &table)?;
        if let Some(file) = save {
            let command = std::env::args().skip(1).filter(|word| !word.starts_with('/')).collect::<Vec<_>>().join(" ");
            fs::write(file, format!("# Measured\n\n`cargo xtask bench {command}`\n\n{table}"))?;
        }
        Ok(())
    }
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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}
