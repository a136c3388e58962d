//! One scrape in Prometheus' text format, written row by row: no registry is built and no row is kept as a value.
//!
//! A family has a bound of rows; what is beyond it is dropped and counted in `esker_metrics_dropped_rows`. The page remembers its
//! families, from which the table of `deploy/METRICS.md` is made. With gzip the text is compressed piece by piece.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;

/// Rows of one family; more are dropped.
const MAX_ROWS: usize = 50_000;
/// Text that is compressed at once.
const PIECE: usize = 256 << 10;

/// The type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value that goes up and down.
    Gauge,
    /// A value that only rises.
    Counter,
    /// Quantiles, and a count.
    Summary,
    /// Buckets, a sum and a count.
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Summary => "summary",
            Self::Histogram => "histogram",
        }
    }
}

/// What a scrape says of one metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// Its labels.
    pub labels: Vec<String>,
    /// One line about it.
    pub help: String,
}

/// The value of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Printed exactly.
    Int(i64),
    /// Printed as short as it can be.
    Float(f64),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    gzip: Option<GzEncoder<Vec<u8>>>,
    families: Vec<Family>,
    dropped: Vec<(String, usize)>,
    /// The first error of the compression.
    failed: Option<io::Error>,
}

/// The rows of one family, in the order of its labels.
#[derive(Debug)]
pub struct Rows<'a> {
    page: &'a mut Page,
    name: String,
    labels: Vec<String>,
    rows: usize,
    dropped: usize,
}

impl Page {
    /// An empty page.
    pub fn new(compress: bool) -> Self {
        let gzip = compress.then(|| GzEncoder::new(Vec::new(), Compression::fast()));
        Self { gzip, ..Self::default() }
    }

    /// Begins a family. Its rows follow at once.
    pub fn family(&mut self, name: &str, kind: Kind, labels: &[&str], help: &str) -> Rows<'_> {
        self.compress_pieces();
        let kind_name = kind.name();
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind_name}");
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        self.families.push(Family { name: name.to_owned(), kind, labels: labels.clone(), help: help.to_owned() });
        Rows { page: self, name: name.to_owned(), labels, rows: 0, dropped: 0 }
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Into<Value>) {
        self.family(name, Kind::Gauge, &[], help).add(&[], value);
    }

    /// A counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, value: impl Into<Value>) {
        self.family(name, Kind::Counter, &[], help).add(&[], value);
    }

    /// The text, or its compressed form.
    ///
    /// # Errors
    /// Of the compression.
    pub fn finish(mut self) -> io::Result<Vec<u8>> {
        self.end()?;
        match self.gzip {
            None => Ok(self.text.into_bytes()),
            Some(mut gzip) => {
                gzip.write_all(self.text.as_bytes())?;
                gzip.finish()
            }
        }
    }

    /// What is on the page, instead of its text.
    ///
    /// # Errors
    /// Of the compression.
    pub fn finish_families(mut self) -> io::Result<Vec<Family>> {
        self.end()?;
        Ok(self.families)
    }

    fn end(&mut self) -> io::Result<()> {
        let dropped = std::mem::take(&mut self.dropped);
        let help = "Rows that this scrape left out because their metric has too many";
        let mut rows = self.family("esker_metrics_dropped_rows", Kind::Gauge, &["metric"], help);
        for (metric, count) in dropped {
            rows.add(&[&metric], count);
        }
        drop(rows);
        self.failed.take().map_or(Ok(()), Err)
    }

    fn compress_pieces(&mut self) {
        if self.text.len() < PIECE {
            return;
        }
        if let Some(gzip) = &mut self.gzip {
            if let Err(error) = gzip.write_all(self.text.as_bytes()) {
                self.failed.get_or_insert(error);
            }
            self.text.clear();
        }
    }
}

impl Rows<'_> {
    /// A row; `values` are those of the labels.
    pub fn add(&mut self, values: &[&str], value: impl Into<Value>) {
        self.add_part("", values, None, value);
    }

    /// A row of a summary or a histogram: `suffix` goes to the name, `extra` is a further label.
    pub fn add_part(&mut self, suffix: &str, values: &[&str], extra: Option<(&str, &str)>, value: impl Into<Value>) {
        if !self.has_room() {
            return;
        }
        let text = &mut self.page.text;
        text.push_str(&self.name);
        text.push_str(suffix);
        let labels = self.labels.iter().map(String::as_str).zip(values.iter().copied()).chain(extra);
        write_labels(text, labels);
        write_value(text, value.into());
    }

    /// A row whose labels are text already: see [`labels_text`].
    pub fn add_labeled(&mut self, labels: &str, value: impl Into<Value>) {
        if !self.has_room() {
            return;
        }
        self.page.compress_pieces();
        let text = &mut self.page.text;
        text.push_str(&self.name);
        text.push_str(labels);
        write_value(text, value.into());
    }

    fn has_room(&mut self) -> bool {
        let room = self.rows < MAX_ROWS;
        self.rows += usize::from(room);
        self.dropped += usize::from(!room);
        room
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        if self.dropped > 0 {
            self.page.dropped.push((std::mem::take(&mut self.name), self.dropped));
        }
    }
}

/// Labels as text, for rows of several families.
pub fn labels_text<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    write_labels(&mut text, labels);
    text
}

fn write_labels<'a>(text: &mut String, labels: impl Iterator<Item = (&'a str, &'a str)>) {
    let mut next = '{';
    for (label, value) in labels {
        text.push(next);
        next = ',';
        text.push_str(label);
        text.push_str("=\"");
        if value.contains(['\\', '"', '\n']) {
            text.push_str(&value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
        } else {
            text.push_str(value);
        }
        text.push('"');
    }
    if next == ',' {
        text.push('}');
    }
}

fn write_value(text: &mut String, value: Value) {
    let _ = match value {
        Value::Int(value) => writeln!(text, " {value}"),
        Value::Float(value) if value.is_infinite() && value > 0.0 => writeln!(text, " +Inf"),
        Value::Float(value) if value.is_infinite() => writeln!(text, " -Inf"),
        Value::Float(value) => writeln!(text, " {value}"),
    };
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn text(page: Page) -> String {
        String::from_utf8(page.finish().unwrap()).unwrap()
    }

    #[test]
    fn a_page_is_prometheus_text() {
        let mut page = Page::new(false);
        page.gauge("a", "Help", 3_usize);
        let mut rows = page.family("b_total", Kind::Counter, &["topic", "partition"], "Other");
        rows.add(&["t\"\\\n", "0"], 1.5);
        rows.add_labeled("{x=\"y\"}", -1_i64);
        drop(rows);
        page.family("c", Kind::Summary, &["request"], "S").add_part(
            "",
            &["Produce"],
            Some(("quantile", "0.5")),
            f64::INFINITY,
        );
        let expected = "# HELP a Help\n# TYPE a gauge\na 3\n# HELP b_total Other\n# TYPE b_total counter\n\
            b_total{topic=\"t\\\"\\\\\\n\",partition=\"0\"} 1.5\nb_total{x=\"y\"} -1\n\
            # HELP c S\n# TYPE c summary\nc{request=\"Produce\",quantile=\"0.5\"} +Inf\n";
        let text = text(page);
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn rows_beyond_the_bound_are_dropped_and_counted() {
        let mut page = Page::new(false);
        let mut rows = page.family("many", Kind::Gauge, &["n"], "Many");
        (0..MAX_ROWS + 7).for_each(|n| rows.add(&[&n.to_string()], n));
        drop(rows);
        let text = text(page);
        assert_eq!(text.matches("many{").count(), MAX_ROWS);
        assert!(text.ends_with("esker_metrics_dropped_rows{metric=\"many\"} 7\n"));
    }

    #[test]
    fn a_compressed_page_has_the_same_text() {
        let fill = |mut page: Page| {
            for family in 0..20 {
                let mut rows = page.family(&format!("f{family}"), Kind::Gauge, &["n"], "F");
                (0..5000).for_each(|n| rows.add_labeled(&format!("{{n=\"{n}\"}}"), n * 31 % 977));
            }
            page.finish().unwrap()
        };
        let (plain, packed) = (fill(Page::new(false)), fill(Page::new(true)));
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, plain);
        assert!(packed.len() * 2 < plain.len());
    }
}
