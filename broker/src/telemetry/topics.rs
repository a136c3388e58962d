//! Bytes and records by topic. A partition holds its topic's handles, so that a batch costs a few atomic additions.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Counters by topic.
#[derive(Debug)]
pub struct TopicMetrics {
    bytes_in: IntCounterVec,
    bytes_out: IntCounterVec,
    messages_in: IntCounterVec,
}

/// One topic's counters.
#[derive(Debug, Clone)]
pub struct TopicRates {
    bytes_in: IntCounter,
    bytes_out: IntCounter,
    messages_in: IntCounter,
}

impl TopicMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let by_topic = |name: &str, help: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &["topic"])?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        Ok(Self {
            bytes_in: by_topic("kafka_server_brokertopicmetrics_bytesin_total", "Bytes of record batches produced")?,
            bytes_out: by_topic("kafka_server_brokertopicmetrics_bytesout_total", "Bytes of record batches fetched")?,
            messages_in: by_topic("kafka_server_brokertopicmetrics_messagesin_total", "Records produced")?,
        })
    }

    /// The counters of a topic.
    pub fn of(&self, topic: &str) -> TopicRates {
        TopicRates {
            bytes_in: self.bytes_in.with_label_values(&[topic]),
            bytes_out: self.bytes_out.with_label_values(&[topic]),
            messages_in: self.messages_in.with_label_values(&[topic]),
        }
    }

    /// Forgets a topic that is gone.
    pub fn forget(&self, topic: &str) {
        for counters in [&self.bytes_in, &self.bytes_out, &self.messages_in] {
            // It may never have been counted.
            let _ = counters.remove_label_values(&[topic]);
        }
    }
}

impl TopicRates {
    /// A batch came in.
    pub fn produced(&self, bytes: usize, records: i32) {
        self.bytes_in.inc_by(bytes as u64);
        self.messages_in.inc_by(u64::try_from(records).unwrap_or_default());
    }

    /// Records went out.
    pub fn fetched(&self, bytes: usize) {
        if bytes > 0 {
            self.bytes_out.inc_by(bytes as u64);
        }
    }
}
