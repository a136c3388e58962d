//! The table: medians over rounds.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use esker_benches::Result;

use crate::cpu::Cpu;

/// One row, measured once.
#[derive(Debug, Clone)]
pub struct Round(Vec<f64>);

/// The figures of a row, with the digits that count.
const FIGURES: [(&str, usize); 9] = [
    ("commit p50, ms", 2),
    ("p99, ms", 2),
    ("longest, ms", 2),
    ("leader idle, % of a core", 2),
    ("leader, CPU us/request", 0),
    ("other voters idle, %", 2),
    ("learners idle, %", 1),
    ("learners under load, %", 1),
    ("entries that the slowest lacks", 0),
];

impl Round {
    /// From CPU rates without and with requests, and the latencies of these. The leader's CPU time a request is what it takes more than idle.
    pub fn new(idle: Cpu, busy: Cpu, rate: f64, mut latencies: Vec<Duration>, lag: u64) -> Result<Self> {
        latencies.sort_unstable();
        let percentile = |part: f64| -> Result<f64> {
            let at = ((latencies.len() as f64 * part) as usize).min(latencies.len().saturating_sub(1));
            Ok(latencies.get(at).ok_or("no request was committed")?.as_secs_f64() * 1e3)
        };
        Ok(Self(vec![
            percentile(0.5)?,
            percentile(0.99)?,
            percentile(1.0)?,
            idle.leader * 100.0,
            (busy.leader - idle.leader) / rate * 1e6,
            idle.voters * 100.0,
            idle.learners * 100.0,
            busy.learners * 100.0,
            lag as f64,
        ]))
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((name, digits), figure) in FIGURES.iter().zip(&self.0) {
            write!(f, "{name} {figure:.digits$}; ")?;
        }
        Ok(())
    }
}

/// What was measured of one row.
#[derive(Debug, Default)]
struct Row {
    rounds: Vec<Round>,
    failures: usize,
}

/// What was measured.
#[derive(Debug, Default)]
pub struct Report(BTreeMap<usize, Row>);

impl Report {
    /// Adds a round of a row.
    pub fn add(&mut self, learners: usize, round: Round) {
        self.0.entry(learners).or_default().rounds.push(round);
    }

    /// Counts a round that has no figures.
    pub fn add_failure(&mut self, learners: usize) {
        self.0.entry(learners).or_default().failures += 1;
    }

    /// Whether each row has figures.
    pub fn is_whole(&self) -> bool {
        self.0.values().all(|row| !row.rounds.is_empty())
    }

    /// Prints it as Markdown.
    pub fn print(&self) {
        if self.0.is_empty() {
            return;
        }
        let names: Vec<&str> = FIGURES.iter().map(|(name, _)| *name).collect();
        println!("| learners | rounds | without figures | {} |", names.join(" | "));
        println!("|{}", "---|".repeat(names.len() + 3));
        for (learners, Row { rounds, failures }) in &self.0 {
            let column = |(at, (_, digits)): (usize, &(&str, usize))| {
                let mut figures: Vec<f64> = rounds.iter().filter_map(|round| round.0.get(at).copied()).collect();
                figures.sort_by(f64::total_cmp);
                figures.get(figures.len() / 2).map_or("-".to_owned(), |median| format!("{median:.digits$}"))
            };
            let cells: Vec<String> = FIGURES.iter().enumerate().map(column).collect();
            println!("| {learners} | {} | {failures} | {} |", rounds.len(), cells.join(" | "));
        }
    }
}
