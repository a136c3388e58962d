//! The tables: medians of both, and their ratio.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Options;
use crate::load::{Cell, Outcome};
use esker_benches::process::Memory;

/// All that was measured.
pub struct Report {
    cells: Vec<Cell>,
    rows: BTreeMap<(&'static str, usize), Vec<Outcome>>,
    starts: BTreeMap<&'static str, Vec<f64>>,
    idle: BTreeMap<&'static str, Vec<Memory>>,
    loaded: BTreeMap<&'static str, Vec<Memory>>,
}

impl Report {
    /// Nothing measured yet.
    pub fn new(cells: Vec<Cell>) -> Self {
        Self { cells, rows: BTreeMap::new(), starts: BTreeMap::new(), idle: BTreeMap::new(), loaded: BTreeMap::new() }
    }

    /// The rows.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// Time from exec to the first answer.
    pub fn start(&mut self, peer: &'static str, time: Duration) {
        self.starts.entry(peer).or_default().push(time.as_secs_f64() * 1e3);
    }

    /// Memory before any load.
    pub fn idle(&mut self, peer: &'static str, memory: Memory) {
        self.idle.entry(peer).or_default().push(memory);
    }

    /// Memory after all load.
    pub fn loaded(&mut self, peer: &'static str, memory: Memory) {
        self.loaded.entry(peer).or_default().push(memory);
    }

    /// A row's outcome.
    pub fn add(&mut self, peer: &'static str, cell: usize, outcome: Outcome) {
        self.rows.entry((peer, cell)).or_default().push(outcome);
    }

    /// Prints it as Markdown.
    pub fn print(&self, options: &Options) {
        println!(
            "{} round(s), {} MB a row, {} connection(s), {} requests in flight each, batches of {} B (1 partition) and {} B\n\
             (100 partitions, 10 a request). Medians. GB = 10^9 bytes of record batches.\n",
            options.rounds(),
            options.bytes() / 1_000_000,
            options.connections,
            options.in_flight,
            options.batch,
            options.small_batch,
        );
        println!(
            "| load | MB/s Esker | Kafka | ratio | CPU s/GB Esker | Kafka | ratio | CPU s/M records Esker | Kafka |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        for (index, cell) in self.cells.iter().enumerate() {
            let both = |figure: fn(&Outcome) -> f64| {
                ["esker", "kafka"].map(|peer| median(self.rows.get(&(peer, index)).into_iter().flatten().map(figure)))
            };
            let [rate, cpu, million] =
                [both(Outcome::mb_per_second), both(Outcome::cpu_per_gb), both(Outcome::cpu_per_million)];
            println!(
                "| {cell} | {} | {} | {} | {} | {} | {} | {} | {} |",
                number(rate[0], 0),
                number(rate[1], 0),
                ratio(rate),
                number(cpu[0], 3),
                number(cpu[1], 3),
                ratio(cpu),
                number(million[0], 4),
                number(million[1], 4),
            );
        }
        println!("\n| | Esker | Kafka | ratio |\n|---|---|---|---|");
        self.line("exec to first answer, ms", 1, |peer| median(self.starts.get(peer).into_iter().flatten().copied()));
        type Part = fn(&Memory) -> u64;
        let parts: [(&str, Part); 3] =
            [("resident", |m| m.resident), ("of it anonymous", |m| m.anonymous), ("of it files", |m| m.file)];
        for (when, all) in [("idle", &self.idle), ("after load", &self.loaded)] {
            for (what, part) in parts {
                self.line(&format!("{when}: {what}, MiB"), 1, |peer| {
                    median(all.get(peer).into_iter().flatten().map(|m| part(m) as f64 / f64::from(1 << 20)))
                });
            }
        }
    }

    fn line(&self, name: &str, digits: usize, figure: impl Fn(&'static str) -> Option<f64>) {
        let both = ["esker", "kafka"].map(figure);
        println!("| {name} | {} | {} | {} |", number(both[0], digits), number(both[1], digits), ratio(both));
    }
}

/// Of figures in any order.
pub fn median(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let upper = *figures.get(middle)?;
    let lower = if figures.len().is_multiple_of(2) {
        figures.get(middle.wrapping_sub(1)).copied().unwrap_or(upper)
    } else {
        upper
    };
    Some((lower + upper) / 2.0)
}

/// A figure, or a dash.
pub fn number(figure: Option<f64>, digits: usize) -> String {
    figure.map_or("-".into(), |figure| format!("{figure:.digits$}"))
}

/// Esker's part of Kafka's figure.
pub fn ratio([esker, kafka]: [Option<f64>; 2]) -> String {
    esker.zip(kafka).map_or("-".into(), |(esker, kafka)| format!("{:.2}", esker / kafka))
}
