//! What became of the lines that `esker produce` sent.

use std::collections::BTreeMap;

use esker_client::{Client, Delivered, Delivery, ErrorCode, ProduceError, Producer, ProducerConfig, ProducerRecord};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::super::error::CliError;
use super::super::output::print_to_stderr;
use super::super::units::show_count;

/// A line that was sent, or could not be.
pub(super) struct SentLine {
    pub(super) line: u64,
    pub(super) record: ProducerRecord,
    pub(super) delivery: Result<Delivery, ProduceError>,
    /// Its part of the bytes that may be in flight.
    pub(super) room: OwnedSemaphorePermit,
}

/// What was produced.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) records: u64,
    pub(super) failed: u64,
    /// First and last offset of each partition.
    offsets: BTreeMap<i32, (i64, i64)>,
}

impl Summary {
    fn add(&mut self, delivered: Delivered) {
        self.records += 1;
        let offset = delivered.offset;
        let (first, last) = self.offsets.entry(delivered.partition).or_insert((offset, offset));
        (*first, *last) = ((*first).min(offset), (*last).max(offset));
    }

    /// One line for people.
    pub(super) fn to_text(&self, topic: &str) -> String {
        let mut text = format!("produced {} to {topic}", show_count(self.records, "record", "records"));
        for (at, (partition, (first, last))) in self.offsets.iter().enumerate() {
            let mark = if at == 0 { ':' } else { ',' };
            // Without acknowledgements there are no offsets.
            let offsets = if *first < 0 { "unknown".to_owned() } else { format!("{first} to {last}") };
            text.push_str(&format!("{mark} partition {partition} offsets {offsets}"));
        }
        text
    }

    pub(super) fn to_json(&self, topic: &str) -> Value {
        let known = |offset: i64| (offset >= 0).then_some(offset);
        let partition = |(partition, (first, last)): (&i32, &(i64, i64))| json!({"partition": partition, "first_offset": known(*first), "last_offset": known(*last)});
        let partitions: Vec<_> = self.offsets.iter().map(partition).collect();
        json!({"topic": topic, "records": self.records, "failed": self.failed, "partitions": partitions})
    }
}

/// Failures that are printed one by one; later ones are only counted.
const PRINTED_FAILURES: u64 = 20;

/// Waits for deliveries. A failure of a record is printed with its line, and the next records go on.
pub(super) struct Deliveries {
    client: Client,
    config: ProducerConfig,
    /// Sends one record a batch.
    single: Option<Producer>,
    progress: ProgressBar,
    summary: Summary,
}

impl Deliveries {
    pub(super) fn new(client: &Client, config: ProducerConfig, progress: ProgressBar) -> Self {
        Self { client: client.clone(), config, single: None, progress, summary: Summary::default() }
    }

    /// Waits for all of them, or for a failure that the next records would have, too.
    pub(super) async fn watch(mut self, mut sent: mpsc::Receiver<SentLine>) -> Result<Summary, CliError> {
        while let Some(SentLine { line, record, delivery, room }) = sent.recv().await {
            let outcome = match delivery {
                Ok(delivery) => delivery.wait().await,
                Err(error) => Err(error),
            };
            let outcome = match outcome {
                Err(error) if is_of_one_record(&error) => self.send_alone(record).await,
                outcome => outcome,
            };
            match outcome {
                Ok(delivered) => {
                    self.summary.add(delivered);
                    self.progress.inc(1);
                }
                Err(source) if is_of_one_record(&source) => self.count_failure(&CliError::Line { line, source }),
                Err(source) => return Err(CliError::Line { line, source }),
            }
            drop(room);
        }
        if let Some(single) = self.single.take() {
            // Each record was awaited: nothing is left to flush.
            let _ = single.close().await;
        }
        Ok(self.summary)
    }

    /// The broker refuses a whole batch for one record. In a batch of its own a good record gets through.
    async fn send_alone(&mut self, record: ProducerRecord) -> Result<Delivered, ProduceError> {
        let single = self.single.get_or_insert_with(|| Producer::new(&self.client, self.config.clone()));
        single.send(record).await?.wait().await
    }

    fn count_failure(&mut self, error: &CliError) {
        self.summary.failed += 1;
        if self.summary.failed <= PRINTED_FAILURES {
            self.progress.suspend(|| print_to_stderr(&format!("esker: {error}")));
        }
    }
}

/// Whether a failure comes from a record, so that others may succeed.
pub(super) fn is_of_one_record(error: &ProduceError) -> bool {
    match error {
        ProduceError::TooLarge { .. } | ProduceError::Batch(_) => true,
        ProduceError::Refused { code, .. } => matches!(
            *code,
            ErrorCode::MESSAGE_TOO_LARGE
                | ErrorCode::RECORD_LIST_TOO_LARGE
                | ErrorCode::INVALID_RECORD
                | ErrorCode::INVALID_TIMESTAMP
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_offsets() {
        let mut summary = Summary::default();
        for (partition, offset) in [(1, 7), (0, 3), (1, 5)] {
            summary.add(Delivered { partition, offset, timestamp: 0 });
        }
        assert_eq!(
            summary.to_text("t"),
            "produced 3 records to t: partition 0 offsets 3 to 3, partition 1 offsets 5 to 7"
        );
        assert_eq!(summary.to_json("t")["partitions"][1]["last_offset"], 7);
        assert_eq!(Summary::default().to_text("t"), "produced 0 records to t");
    }

    #[test]
    fn a_missing_partition_is_no_failure_of_one_record() {
        let missing = ProduceError::NoPartition { topic: "t".to_owned(), partition: 9, count: 1 };
        assert!(!is_of_one_record(&missing));
        assert!(is_of_one_record(&ProduceError::TooLarge { size: 2, limit: 1 }));
    }
}
