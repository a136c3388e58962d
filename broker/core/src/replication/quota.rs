//! Replication quotas (KIP-73): which replicas are throttled, and whether a rate is exceeded.
//!
//! The rate is Kafka's `SimpleRate`: bytes of the last samples over the time since the oldest of them began. What is in sync is never held
//! back, and is counted all the same. Times are milliseconds since any origin that the caller keeps to.

use std::collections::VecDeque;
use std::time::Duration;

/// The replicas of a topic that are throttled on one broker: `leader.replication.throttled.replicas`, or the followers' list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ThrottledReplicas {
    /// None.
    #[default]
    None,
    /// All (`*`).
    All,
    /// Those of these partitions.
    Partitions(Vec<i32>),
}

impl ThrottledReplicas {
    /// Reads the config on broker `node_id`: `*`, or pairs of a partition and a broker.
    pub fn parse(list: &str, node_id: i32) -> Self {
        if list.trim() == "*" {
            return Self::All;
        }
        let own = |pair: &str| {
            let (partition, broker) = pair.trim().split_once(':')?;
            let (partition, broker) = (partition.parse().ok()?, broker.parse::<i32>().ok()?);
            (broker == node_id).then_some(partition)
        };
        let partitions: Vec<i32> = list.split(',').filter_map(own).collect();
        if partitions.is_empty() { Self::None } else { Self::Partitions(partitions) }
    }

    /// Whether the replica of a partition is throttled.
    pub fn contains(&self, partition: i32) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Partitions(partitions) => partitions.contains(&partition),
        }
    }
}

/// The bytes of the last samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateWindow {
    samples: usize,
    sample_ms: i64,
    /// When each began, and its bytes; the oldest first.
    counted: VecDeque<(i64, u64)>,
}

impl RateWindow {
    /// A window of at least one sample (`replication.quota.window.num`), each of which lasts so long.
    pub fn new(samples: usize, sample: Duration) -> Self {
        let sample_ms = i64::try_from(sample.as_millis()).unwrap_or(i64::MAX).max(1);
        Self { samples: samples.max(1), sample_ms, counted: VecDeque::new() }
    }

    /// Counts bytes.
    pub fn record(&mut self, now_ms: i64, bytes: u64) {
        self.drop_expired(now_ms);
        match self.counted.back_mut().filter(|(began, _)| now_ms.saturating_sub(*began) < self.sample_ms) {
            Some((_, counted)) => *counted = counted.saturating_add(bytes),
            None => self.counted.push_back((now_ms, bytes)),
        }
        while self.counted.len() > self.samples {
            self.counted.pop_front();
        }
    }

    /// How long until the rate is within `limit` bytes a second if nothing more is counted; zero if it is.
    pub fn time_until_within(&mut self, now_ms: i64, limit: u64) -> Duration {
        self.drop_expired(now_ms);
        let Some((oldest, _)) = self.counted.front().copied() else { return Duration::ZERO };
        let bytes: u128 = self.counted.iter().map(|(_, bytes)| u128::from(*bytes)).sum();
        let elapsed = u128::try_from(now_ms.saturating_sub(oldest).max(self.sample_ms)).unwrap_or_default();
        // It takes so long to move the bytes at the limit; the oldest sample expires at the latest.
        let needed = bytes.saturating_mul(1000).checked_div(u128::from(limit)).unwrap_or(u128::from(u64::MAX));
        let window = u128::try_from(self.window_ms()).unwrap_or_default();
        let left = needed.min(window).saturating_sub(elapsed);
        if bytes == 0 { Duration::ZERO } else { Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX)) }
    }

    fn window_ms(&self) -> i64 {
        i64::try_from(self.samples).unwrap_or(i64::MAX).saturating_mul(self.sample_ms)
    }

    fn drop_expired(&mut self, now_ms: i64) {
        let window = self.window_ms();
        while self.counted.front().is_some_and(|(began, _)| now_ms.saturating_sub(*began) >= window) {
            self.counted.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_name_the_replicas_of_a_broker() {
        let cases = [
            ("", 1, ThrottledReplicas::None),
            ("*", 1, ThrottledReplicas::All),
            ("0:1,1:2,2:1", 1, ThrottledReplicas::Partitions(vec![0, 2])),
            ("0:1, 1:2", 2, ThrottledReplicas::Partitions(vec![1])),
            ("0:1,1:2", 3, ThrottledReplicas::None),
        ];
        for (list, node_id, expected) in cases {
            assert_eq!(ThrottledReplicas::parse(list, node_id), expected, "{list} on {node_id}");
        }
        assert!(ThrottledReplicas::All.contains(7) && !ThrottledReplicas::None.contains(7));
        assert!(
            ThrottledReplicas::Partitions(vec![7]).contains(7) && !ThrottledReplicas::Partitions(vec![1]).contains(7)
        );
    }

    #[test]
    fn a_rate_is_exceeded_until_its_time_is_over() {
        let ms = Duration::from_millis;
        let mut window = RateWindow::new(11, ms(1000));
        assert_eq!(window.time_until_within(0, 100), ms(0), "nothing was counted");
        window.record(0, 100);
        assert_eq!(window.time_until_within(0, 100), ms(0), "a sample is the shortest time");
        window.record(500, 300);
        assert_eq!(window.time_until_within(500, 100), ms(3000), "400 bytes take 4 s, of which one has been counted");
        assert_eq!(window.time_until_within(4000, 100), ms(0));
        window.record(4000, 100_000);
        assert_eq!(window.time_until_within(4000, 100), ms(7000), "the oldest sample expires at the latest");
        assert!(window.time_until_within(11_000, 100) > ms(0), "the burst has not");
        assert_eq!(window.time_until_within(15_000, 100), ms(0), "nor is there anything left");
        window.record(20_000, 1);
        assert!(window.time_until_within(20_000, 0) > ms(0), "a limit of nothing");
    }

    #[test]
    fn a_transfer_that_waits_keeps_to_its_limit() {
        for (limit, piece) in [(1_000_000, 50_000), (1_000_000, 1_000_000), (50_000, 100_000)] {
            let mut window = RateWindow::new(11, Duration::from_secs(1));
            let (mut now, mut sent) = (0, 0u64);
            while now < 60_000 {
                let wait = window.time_until_within(now, limit);
                if wait.is_zero() {
                    window.record(now, piece);
                    sent += piece;
                    now += 1;
                } else {
                    now += i64::try_from(wait.as_millis()).unwrap();
                }
            }
            let rate = sent / 60;
            assert!(rate > limit / 2 && rate < limit * 3 / 2, "{limit} {piece}: {rate}");
        }
    }
}
