//! The result of a run, as a table and as JSON.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::error::CliError;
use super::super::output::{or_dash, print_line, table};
use super::measure::{Latency, Measurement};

const MIB: f64 = (1_u64 << 20) as f64;

/// A run that is over.
pub(super) struct Report<'a> {
    pub topic: &'a str,
    /// The flags that shaped the load, as JSON and as text.
    pub settings: Map<String, Value>,
    pub measured: &'a Measurement,
    /// The window that was measured.
    pub elapsed: Duration,
    /// CPU time of this process in that window.
    pub cpu: Duration,
    /// What the latency is of.
    pub latency_of: &'static str,
}

impl Report<'_> {
    /// Prints it. Failures of records are the command's failure.
    pub(super) fn print(self, as_json: bool) -> Result<(), CliError> {
        if as_json {
            print_line(&serde_json::to_string_pretty(&self.to_json())?)?;
        } else {
            self.print_table()?;
        }
        match (&self.measured.failure, self.measured.failed) {
            (Some(first), failed) => Err(CliError::Refused(format!("{failed} records failed; the first: {first}"))),
            (None, _) => Ok(()),
        }
    }

    fn per_second(&self, count: f64) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { count / seconds } else { 0.0 }
    }

    /// CPU time per time, of one processor.
    fn cpu_percent(&self) -> f64 {
        self.per_second(self.cpu.as_secs_f64()) * 100.0
    }

    fn to_json(&self) -> Value {
        let latency = self.measured.latency().map(|l: Latency| {
            let rounded = |ms: f64| (ms * 1000.0).round() / 1000.0;
            json!({
                "of": self.latency_of, "mean": rounded(l.mean), "p50": rounded(l.p50), "p95": rounded(l.p95),
                "p99": rounded(l.p99), "p99.9": rounded(l.p999), "max": rounded(l.max),
            })
        });
        json!({
            "topic": self.topic, "settings": self.settings, "records": self.measured.records,
            "bytes": self.measured.bytes, "failed": self.measured.failed, "seconds": self.elapsed.as_secs_f64(),
            "records_per_second": self.per_second(self.measured.records as f64).round(),
            "bytes_per_second": self.per_second(self.measured.bytes as f64).round(),
            "latency_ms": latency, "cpu_percent": self.cpu_percent().round(),
        })
    }

    fn print_table(&self) -> Result<(), CliError> {
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let settings: Vec<_> = self.settings.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect();
        print_line(&format!("{}  {}", self.topic, settings.join("  ")))?;
        let heading = ["RECORDS", "SECONDS", "RECORDS/S", "MIB/S", "FAILED", "CLIENT CPU"];
        let row = vec![
            self.measured.records.to_string(),
            format!("{:.1}", self.elapsed.as_secs_f64()),
            format!("{:.0}", self.per_second(self.measured.records as f64)),
            format!("{:.1}", self.per_second(self.measured.bytes as f64) / MIB),
            self.measured.failed.to_string(),
            format!("{:.0} %", self.cpu_percent()),
        ];
        table(&heading, &[row])?;
        print_line("")?;
        print_line(&format!("latency of {}, ms:", self.latency_of))?;
        let latency = self.measured.latency();
        let cell = |pick: fn(&Latency) -> f64| or_dash(latency.as_ref().map(|l| format!("{:.2}", pick(l))));
        let row = vec![
            cell(|l| l.mean),
            cell(|l| l.p50),
            cell(|l| l.p95),
            cell(|l| l.p99),
            cell(|l| l.p999),
            cell(|l| l.max),
        ];
        Ok(table(&["MEAN", "P50", "P95", "P99", "P99.9", "MAX"], &[row])?)
    }
}
