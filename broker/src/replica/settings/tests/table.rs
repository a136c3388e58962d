//! The configs of the log with values for each level, all valid and all different from the level below.

use super::*;
use crate::config::LiveConfig;
use esker_core::config::ConfigKey;

/// A topic's config.
pub(super) struct Row {
    pub topic: &'static str,
    /// The broker config of its default.
    pub broker: &'static str,
    pub default: &'static str,
    /// In the file, for all brokers, for this broker, on the topic.
    pub values: [&'static str; 4],
    /// The topic's value, as DescribeConfigs would return it.
    pub has: fn(&TopicConfig, &TopicSettings) -> String,
}

/// A broker's own.
pub(super) struct BrokerRow {
    pub name: &'static str,
    pub default: &'static str,
    pub fixed: &'static str,
    /// For all brokers and for this one; `None` where it is read at the start only.
    pub later: Option<[&'static str; 2]>,
    /// The broker's value; `None` if only its behavior shows it.
    pub has: Option<fn(&Running) -> String>,
}

macro_rules! topic {
    ($($topic:literal $broker:literal $default:literal [$($value:literal)*] $has:expr;)*) => {
        &[$(Row { topic: $topic, broker: $broker, default: $default, values: [$($value),*], has: $has }),*]
    };
}

macro_rules! fixed {
    ($name:literal $default:literal $fixed:literal) => {
        BrokerRow { name: $name, default: $default, fixed: $fixed, later: None, has: None }
    };
    ($name:literal $default:literal $fixed:literal $has:expr) => {
        BrokerRow { name: $name, default: $default, fixed: $fixed, later: None, has: Some($has) }
    };
}

macro_rules! dynamic {
    ($name:literal $default:literal $fixed:literal $all:literal $this:literal $has:expr) => {
        BrokerRow { name: $name, default: $default, fixed: $fixed, later: Some([$all, $this]), has: $has }
    };
}

fn policy(_: &TopicConfig, has: &TopicSettings) -> String {
    let names = [(has.log.compact, "compact"), (has.log.delete, "delete")];
    names.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

fn codec(config: &TopicConfig, has: &TopicSettings) -> String {
    let kept = config.compression == CompressionChoice::Producer;
    assert_eq!(has.rules.compression == CompressionTarget::Producer, kept);
    let CompressionChoice::Codec(codec) = config.compression else { return "producer".to_owned() };
    ["uncompressed", "gzip", "snappy", "lz4", "zstd"][usize::from(codec)].to_owned()
}

fn stamped(_: &TopicConfig, has: &TopicSettings) -> String {
    if has.rules.timestamp_type == TimestampType::LogAppend { "LogAppendTime" } else { "CreateTime" }.to_owned()
}

#[rustfmt::skip]
pub(super) const TOPIC: &[Row] = topic! {
    "cleanup.policy" "log.cleanup.policy" "delete" ["compact" "compact,delete" "delete" "compact"] policy;
    "compression.gzip.level" "compression.gzip.level" "-1" ["2" "3" "4" "5"] |c, _| c.gzip_level.to_string();
    "compression.lz4.level" "compression.lz4.level" "9" ["2" "3" "4" "5"] |c, _| c.lz4_level.to_string();
    "compression.type" "compression.type" "producer" ["gzip" "snappy" "lz4" "zstd"] codec;
    "compression.zstd.level" "compression.zstd.level" "3" ["2" "1" "-4" "5"] |c, _| c.zstd_level.to_string();
    "delete.retention.ms" "log.cleaner.delete.retention.ms" "86400000" ["11" "12" "13" "14"]
        |_, s| s.log.delete_retention_ms.to_string();
    "durability" "log.durability" "flush" ["page-cache" "flush" "page-cache" "flush"]
        |_, s| if s.flush_before_ack { "flush" } else { "page-cache" }.to_owned();
    "file.delete.delay.ms" "log.segment.delete.delay.ms" "60000" ["21" "22" "23" "24"]
        |_, s| s.log.file_delete_delay_ms.to_string();
    "flush.messages" "log.flush.interval.messages" "9223372036854775807" ["31" "32" "33" "34"]
        |_, s| s.log.flush_messages.to_string();
    "flush.ms" "log.flush.interval.ms" "9223372036854775807" ["41" "42" "43" "44"] |_, s| s.log.flush_ms.to_string();
    "index.interval.bytes" "log.index.interval.bytes" "4096" ["51" "52" "53" "54"]
        |_, s| s.log.index_interval_bytes.to_string();
    "max.compaction.lag.ms" "log.cleaner.max.compaction.lag.ms" "9223372036854775807" ["1001" "1002" "1003" "1004"]
        |_, s| s.log.max_compaction_lag_ms.to_string();
    "max.decompressed.message.bytes" "max.decompressed.message.bytes" "2147483639"
        ["2000001" "2000002" "2000003" "2000004"] |_, s| s.rules.max_decompressed_bytes.to_string();
    "max.message.bytes" "message.max.bytes" "1048588" ["1000001" "1000002" "1000003" "1000004"]
        |_, s| s.rules.max_message_bytes.to_string();
    "message.timestamp.after.max.ms" "log.message.timestamp.after.max.ms" "3600000" ["61" "62" "63" "64"]
        |_, s| s.rules.timestamp_after_max_ms.to_string();
    "message.timestamp.before.max.ms" "log.message.timestamp.before.max.ms" "9223372036854775807" ["71" "72" "73" "74"]
        |_, s| s.rules.timestamp_before_max_ms.to_string();
    "message.timestamp.type" "log.message.timestamp.type" "CreateTime"
        ["LogAppendTime" "CreateTime" "LogAppendTime" "CreateTime"] stamped;
    "min.cleanable.dirty.ratio" "log.cleaner.min.cleanable.ratio" "0.5" ["0.1" "0.2" "0.3" "0.4"]
        |_, s| (f64::from(s.log.min_cleanable_dirty_ppm) / 1e6).to_string();
    "min.compaction.lag.ms" "log.cleaner.min.compaction.lag.ms" "0" ["81" "82" "83" "84"]
        |_, s| s.log.min_compaction_lag_ms.to_string();
    "preallocate" "log.preallocate" "false" ["true" "false" "true" "false"] |_, s| s.log.preallocate.to_string();
    "retention.bytes" "log.retention.bytes" "-1" ["91000" "92000" "93000" "94000"]
        |_, s| s.log.retention_bytes.to_string();
    "retention.ms" "log.retention.ms" "604800000" ["101000" "102000" "-1" "104000"]
        |_, s| s.log.retention_ms.to_string();
    "segment.bytes" "log.segment.bytes" "1073741824" ["1048577" "1048578" "1048579" "1048580"]
        |_, s| s.log.segment_bytes.to_string();
    "segment.index.bytes" "log.index.size.max.bytes" "10485760" ["1111" "1112" "1113" "1114"]
        |_, s| s.log.segment_index_bytes.to_string();
    "segment.jitter.ms" "log.roll.jitter.ms" "0" ["121" "122" "123" "124"] |_, s| s.log.segment_jitter_ms.to_string();
    "segment.ms" "log.roll.ms" "604800000" ["131000" "132000" "133000" "134000"] |_, s| s.log.segment_ms.to_string();
};

fn live(running: &Running) -> LiveConfig {
    LiveConfig::read(&running.broker.metadata.image(), running.broker.node_id, &running.broker.config.statics)
}

fn rate(running: &Running) -> String {
    let rate = live(running).cleaner.io_bytes_per_second;
    if rate < f64::MAX { rate.to_string() } else { "1.7976931348623157E308".to_owned() }
}

/// The tests of log dirs cover `log.dir`, `log.dirs`, `log.journal.dir`, `metadata.log.dir` and `cordoned.log.dirs`, which are left out
/// here.
#[rustfmt::skip]
pub(super) const BROKER: &[BrokerRow] = &[
    fixed!("add.partitions.to.txn.retry.backoff.max.ms" "100" "81"
        |r| r.broker.config.transaction_add_max_wait.as_millis().to_string()),
    fixed!("delete.topic.enable" "true" "false" |r| r.broker.config.delete_topic_enable.to_string()),
    dynamic!("log.cleaner.backoff.ms" "15000" "11" "12" "13" Some(|r| live(r).cleaner_backoff.as_millis().to_string())),
    dynamic!("log.cleaner.dedupe.buffer.size" "134217728" "20000000" "20000001" "20000002"
        Some(|r| live(r).cleaner.dedupe_buffer_bytes.to_string())),
    fixed!("log.cleaner.enable" "true" "false" |r| r.broker.cleaner.is_some().to_string()),
    dynamic!("log.cleaner.io.max.bytes.per.second" "1.7976931348623157E308" "1000000" "1000001" "1000002" Some(rate)),
    dynamic!("log.cleaner.threads" "1" "2" "3" "4" Some(|r| live(r).cleaner.threads.to_string())),
    fixed!("log.journal.bytes" "536870912" "77" |r| r.broker.config.journal_bytes.to_string()),
    fixed!("log.open.files.max" "16384" "99" |r| r.broker.config.open_files_max.to_string()),
    fixed!("log.recovery.max.bytes" "1073741824" "77" |r| r.broker.config.recovery_max_bytes.to_string()),
    fixed!("log.retention.check.interval.ms" "300000" "51"
        |r| r.broker.config.retention_check_interval.as_millis().to_string()),
    dynamic!("log.scrub.interval.ms" "604800000" "61" "62" "63" Some(|r| live(r).scrub_interval.as_millis().to_string())),
    dynamic!("log.scrub.max.bytes.per.second" "10485760" "71" "72" "0"
        Some(|r| live(r).scrub_bytes_per_second.to_string())),
    dynamic!("num.recovery.threads.per.data.dir" "2" "3" "4" "5" None),
    fixed!("num.replica.alter.log.dirs.threads" "" "2"),
    fixed!("offsets.commit.timeout.ms" "5000" "81" |r| r.broker.config.offsets_commit_timeout.as_millis().to_string()),
    fixed!("offsets.retention.check.interval.ms" "600000" "81"
        |r| r.broker.config.offsets_retention_check_interval.as_millis().to_string()),
    fixed!("offsets.retention.minutes" "10080" "2" |r| (r.broker.config.offsets_retention_ms / 60_000).to_string()),
    fixed!("offsets.topic.num.partitions" "50" "4" |r| r.broker.config.offsets_topic_partitions.to_string()),
    fixed!("offsets.topic.replication.factor" "3" "1"
        |r| r.broker.config.offsets_topic_replication_factor.to_string()),
    fixed!("offsets.topic.segment.bytes" "104857600" "1048577"
        |r| r.broker.config.offsets_topic_segment_bytes.to_string()),
    dynamic!("producer.id.expiration.ms" "86400000" "91" "92" "93"
        Some(|r| partition(r).log().config().producer_id_expiration_ms.to_string())),
    fixed!("queued.max.request.bytes" "" "5000000"),
    fixed!("replica.high.watermark.checkpoint.interval.ms" "5000" "111"
        |r| r.broker.config.checkpoint_interval.as_millis().to_string()),
];

#[test]
fn each_value_is_another_than_the_one_below_and_none_is_left_out() {
    for row in TOPIC {
        let mut levels = vec![row.default];
        levels.extend(row.values);
        assert!(levels.windows(2).all(|pair| pair[0] != pair[1]), "{}", row.topic);
        assert_eq!(lookup(Scope::Topic, row.topic).unwrap().broker_name, row.broker);
    }
    // A config without a broker-wide name has one level. Of the others, one has no level of a single broker and a test of its own, and one is the
    // controller's.
    let others = ["min.insync.replicas", "unclean.leader.election.enable"];
    let has_levels = |key: &&ConfigKey| {
        key.scope == Scope::Topic && key.acts && !key.broker_name.is_empty() && !others.contains(&key.name)
    };
    for key in esker_core::config::keys().iter().filter(has_levels) {
        assert!(TOPIC.iter().any(|row| row.topic == key.name), "{}", key.name);
    }
}
