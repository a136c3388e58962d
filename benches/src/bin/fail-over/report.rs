//! Medians and the worst of all rounds.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::faults::{Fault, Round};

/// What was measured.
#[derive(Debug, Default)]
pub struct Report {
    rounds: BTreeMap<Fault, Round>,
}

impl Report {
    /// Adds a round.
    pub fn add(&mut self, fault: Fault, round: Round) {
        let all = self.rounds.entry(fault).or_default();
        all.led.extend(round.led);
        all.others.extend(round.others);
        all.back.extend(round.back);
        all.in_sync.extend(round.in_sync);
    }

    /// Prints a row for each fault and kind of partition.
    pub fn print(&self, peer: &str) {
        println!(
            "{:<8}{:<22}{:<34}{:>7}{:>12}{:>12}",
            "", "fault", "longest gap of partitions", "count", "median ms", "worst ms"
        );
        for (fault, round) in &self.rounds {
            let all = matches!(fault, Fault::None | Fault::Rolling);
            let rows = [
                ("led by the node", &round.led),
                (if all { "all" } else { "only followed by it" }, &round.others),
                ("all, while it comes back", &round.back),
                ("(until it is in sync again)", &round.in_sync),
            ];
            for (name, figures) in rows {
                let Some((median, worst)) = summarize(figures) else { continue };
                let ms = |figure: Duration| figure.as_secs_f64() * 1000.0;
                println!("{peer:<8}{fault:<22}{name:<34}{:>7}{:>12.1}{:>12.1}", figures.len(), ms(median), ms(worst));
            }
        }
    }
}

/// The median, and the longest.
fn summarize(figures: &[Duration]) -> Option<(Duration, Duration)> {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable();
    Some((*sorted.get(sorted.len() / 2)?, *sorted.last()?))
}
