//! The checks themselves.

use bytes::Bytes;
use esker_protocol::{
    compression::{Compression, CompressionError},
    records::{
        Attributes, Batch, BatchError, BatchHeader, FrameSummary, LOG_OVERHEAD, MAGIC_OFFSET, MAGIC_V2, NO_TIMESTAMP,
        Records, TimestampType, check_frames, legacy, rewrite::Rewrite,
    },
};

use super::{CompressionTarget, RecordError, RejectReason, Rejected, ValidateRules, Validated};

/// One batch is never unpacked to more than this, whatever the limit for single records.
const MAX_UNPACKED: usize = 256 << 20;
/// Records named in an answer; more would only make it long.
const MAX_RECORD_ERRORS: usize = 100;
/// Zstd exists for clients from this version of Produce on (KIP-110).
const ZSTD_SINCE: i16 = 7;
/// Record batches are required from this version of Produce on (KIP-98).
const BATCHES_SINCE: i16 = 3;

/// Checks a record set in Kafka's order; rewrites only what the rules demand. `now_ms` is wall clock.
///
/// # Errors
/// The first check that fails. Nothing of a refused set may be appended.
pub fn validate(records: Option<Bytes>, rules: &ValidateRules, now_ms: i64) -> Result<Validated, Rejected> {
    let batch = one_batch(records, rules)?;
    let attributes = batch.header.attributes;
    let codec = attributes.compression().map_err(|error| unsupported(error.to_string()))?;
    if codec == Compression::Zstd && rules.produce_version < ZSTD_SINCE {
        let version = rules.produce_version;
        return Err(unsupported(format!("zstd needs Produce version {ZSTD_SINCE}, the request has {version}")));
    }
    check_header(&batch, rules)?;
    let header = without_client_bits(&batch.header);
    let opened = open(&batch, &header, codec, rules, now_ms)?;
    if let Some((summary, unpacked)) = &opened {
        check_records(&batch, &header, summary, unpacked.as_ref(), rules, now_ms)?;
        if codec != Compression::None && summary.largest_record > rules.max_decompressed_bytes {
            let (size, max) = (summary.largest_record, rules.max_decompressed_bytes);
            return Err(invalid(format!("a record of {size} bytes, max.decompressed.message.bytes is {max}")));
        }
    }
    refuse_append_time(attributes, &header, rules)?;
    rewrite(batch, header, codec, opened.map(|(summary, _)| summary), rules, now_ms)
}

fn invalid(message: impl Into<String>) -> Rejected {
    RejectReason::InvalidRecord(message.into()).into()
}

fn unsupported(message: impl Into<String>) -> Rejected {
    RejectReason::UnsupportedCompression(message.into()).into()
}

impl From<RejectReason> for Rejected {
    fn from(reason: RejectReason) -> Self {
        Self { reason, record_errors: Vec::new() }
    }
}

/// A malformed batch with a correct CRC was encoded wrong: sending it again would not help.
fn malformed(error: BatchError) -> Rejected {
    match error {
        // A length is read before the CRC can be.
        BatchError::Crc { .. } | BatchError::Length { .. } => RejectReason::Corrupt(error.to_string()).into(),
        BatchError::Compression(CompressionError::UnknownCodec { .. }) | BatchError::UnsupportedCodec { .. } => {
            unsupported(error.to_string())
        }
        BatchError::Record { index, .. } => Rejected {
            record_errors: vec![RecordError { batch_index: index, message: error.to_string() }],
            reason: RejectReason::InvalidRecord(error.to_string()),
        },
        other => invalid(other.to_string()),
    }
}

/// The one batch that a produce request may have for a partition. A partial batch behind it is dropped.
fn one_batch(records: Option<Bytes>, rules: &ValidateRules) -> Result<Batch, Rejected> {
    let records = records.ok_or_else(|| invalid("the request has no records for this partition"))?;
    let magic = records.get(MAGIC_OFFSET).map(|magic| *magic as i8);
    match magic {
        None => return Err(invalid("the record set holds no whole record batch")),
        Some(MAGIC_V2) => {}
        Some(magic @ 0..MAGIC_V2) if rules.produce_version < BATCHES_SINCE => {
            return convert(&records, magic, rules);
        }
        Some(magic @ 0..MAGIC_V2) => {
            let version = rules.produce_version;
            return Err(invalid(format!("Produce version {version} takes no messages of the old format {magic}")));
        }
        Some(magic) => return Err(RejectReason::UnknownMagic(magic).into()),
    }
    let (batch, rest) = Batch::parse(records).map_err(malformed)?;
    if whole_batch_follows(&rest) {
        return Err(invalid("a produce request holds exactly one record batch for a partition"));
    }
    Ok(batch)
}

fn whole_batch_follows(rest: &Bytes) -> bool {
    let length = rest.get(8..LOG_OVERHEAD).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
    let size = length.and_then(|length| usize::try_from(length).ok()).map(|length| length.saturating_add(LOG_OVERHEAD));
    rest.len() > MAGIC_OFFSET && size.is_some_and(|size| size > MAGIC_OFFSET && size <= rest.len())
}

/// Messages of Produce 0-2 become a batch. Their size counts as they were sent.
fn convert(records: &Bytes, magic: i8, rules: &ValidateRules) -> Result<Batch, Rejected> {
    check_size(records.len(), rules)?;
    let converted = legacy::up_convert(records, MAX_UNPACKED).map_err(|error| match error {
        BatchError::Crc { .. } => RejectReason::Corrupt(error.to_string()).into(),
        other => invalid(format!("messages of format {magic}: {other}")),
    })?;
    let (batch, _) = Batch::parse(converted).map_err(malformed)?;
    Ok(batch)
}

fn check_size(size: usize, rules: &ValidateRules) -> Result<(), Rejected> {
    if size > rules.max_message_bytes {
        return Err(RejectReason::TooLarge { size, max: rules.max_message_bytes }.into());
    }
    Ok(())
}

/// Base offset, size, CRC, counts, flags: in this order.
fn check_header(batch: &Batch, rules: &ValidateRules) -> Result<(), Rejected> {
    let header = &batch.header;
    if header.base_offset != 0 {
        return Err(invalid(format!("a producer's batch has base offset {}, it must be 0", header.base_offset)));
    }
    check_size(batch.bytes.len(), rules)?;
    batch.verify_crc().map_err(malformed)?;
    let count = header.records_count;
    if count <= 0 || header.last_offset_delta.checked_add(1) != Some(count) {
        return Err(malformed(BatchError::Count { records_count: count, last_offset_delta: header.last_offset_delta }));
    }
    if header.attributes.is_control() {
        return Err(invalid("a producer may not send control records"));
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        return Err(invalid(format!(
            "producer {} sent sequence {}, it must not be negative",
            header.producer_id, header.base_sequence
        )));
    }
    Ok(())
}

/// The header without the bits that only brokers may set: append time, and the delete horizon (KIP-534).
fn without_client_bits(header: &BatchHeader) -> BatchHeader {
    let attributes = header.attributes.with_timestamp_type(TimestampType::Create).with_delete_horizon(false);
    BatchHeader { attributes, ..*header }
}

/// Walks the records if they are uncompressed or the rules depend on them. Returns them if they had to be decompressed.
fn open(
    batch: &Batch,
    header: &BatchHeader,
    codec: Compression,
    rules: &ValidateRules,
    now_ms: i64,
) -> Result<Option<(FrameSummary, Option<Bytes>)>, Rejected> {
    let limits_need_all = rules.timestamp_type == TimestampType::Create
        && (rules.timestamp_before_max_ms != i64::MAX || !fits_limits(header.max_timestamp, rules, now_ms));
    let bits_changed = header.attributes != batch.header.attributes;
    let other_codec = target(rules, codec).is_some();
    let needed = rules.compacted || rules.full || limits_need_all || bits_changed || other_codec;
    if codec == Compression::None {
        let summary = check_frames(header, batch.payload()).map_err(malformed)?;
        return Ok(Some((summary, None)));
    }
    if !needed {
        return Ok(None);
    }
    let plain = batch.plain_records(MAX_UNPACKED).map_err(malformed)?;
    let summary = check_frames(header, &plain).map_err(malformed)?;
    Ok(Some((summary, Some(plain))))
}

fn fits_limits(timestamp: i64, rules: &ValidateRules, now_ms: i64) -> bool {
    timestamp == NO_TIMESTAMP
        || (timestamp >= now_ms.saturating_sub(rules.timestamp_before_max_ms)
            && timestamp <= now_ms.saturating_add(rules.timestamp_after_max_ms))
}

/// Keys of compacted topics, and timestamps within the topic's limits. Every record that fails is named.
fn check_records(
    batch: &Batch,
    header: &BatchHeader,
    summary: &FrameSummary,
    unpacked: Option<&Bytes>,
    rules: &ValidateRules,
    now_ms: i64,
) -> Result<(), Rejected> {
    let limited = rules.timestamp_type == TimestampType::Create;
    let keys_missing = rules.compacted && summary.first_null_key.is_some();
    let out_of_limits = limited
        && !(fits_limits(summary.min_timestamp, rules, now_ms) && fits_limits(summary.max_timestamp, rules, now_ms));
    if !keys_missing && !out_of_limits {
        return Ok(());
    }
    let plain = unpacked.cloned().map_or_else(|| batch.plain_records(MAX_UNPACKED), Ok).map_err(malformed)?;
    let (mut errors, mut bad_time) = (Vec::new(), false);
    for (batch_index, record) in (0..).zip(Records::new(header, plain)) {
        let record = record.map_err(malformed)?;
        let message = if rules.compacted && record.key.is_none() {
            "a record of a compacted topic needs a key".to_owned()
        } else if limited && !fits_limits(record.timestamp, rules, now_ms) {
            bad_time = true;
            format!(
                "timestamp {} is out of range: the topic allows {} ms before and {} ms after the broker's time {now_ms}",
                record.timestamp, rules.timestamp_before_max_ms, rules.timestamp_after_max_ms
            )
        } else {
            continue;
        };
        if errors.len() < MAX_RECORD_ERRORS {
            errors.push(RecordError { batch_index, message });
        }
    }
    let Some(first) = errors.first() else { return Ok(()) };
    let message = format!("record {}: {}", first.batch_index, first.message);
    let reason = match bad_time {
        true => RejectReason::InvalidTimestamp(message),
        false => RejectReason::MissingKey(message),
    };
    Err(Rejected { reason, record_errors: errors })
}

/// Only a broker says "append time": refused where the topic uses it, and where there is no other time.
fn refuse_append_time(attributes: Attributes, header: &BatchHeader, rules: &ValidateRules) -> Result<(), Rejected> {
    let claimed = attributes.timestamp_type() == TimestampType::LogAppend;
    if claimed && (rules.timestamp_type == TimestampType::LogAppend || header.max_timestamp == NO_TIMESTAMP) {
        let message = "a producer may not set the timestamp type to LogAppendTime".to_owned();
        return Err(RejectReason::InvalidTimestamp(message).into());
    }
    Ok(())
}

/// The codec and level to pack with, if it is not the one the batch has.
fn target(rules: &ValidateRules, codec: Compression) -> Option<(Compression, Option<i32>)> {
    match rules.compression {
        CompressionTarget::Codec { codec: wanted, level } if wanted != codec => Some((wanted, level)),
        _ => None,
    }
}

/// Rewrites the batch to match the topic's rules; in the common case it matches already.
fn rewrite(
    batch: Batch,
    header: BatchHeader,
    codec: Compression,
    summary: Option<FrameSummary>,
    rules: &ValidateRules,
    now_ms: i64,
) -> Result<Validated, Rejected> {
    let append_time = (rules.timestamp_type == TimestampType::LogAppend).then_some(now_ms);
    let log_append_time = append_time.unwrap_or(-1);
    if let Some((codec, level)) = target(rules, codec) {
        let cleaned = Batch { header, bytes: batch.bytes };
        let packed = Rewrite { log_append_time: append_time, ..Rewrite::recompress(codec, level) };
        let bytes = packed.apply(&cleaned, MAX_UNPACKED).map_err(malformed)?;
        check_size(bytes.len(), rules)?;
        let (batch, _) = Batch::parse(bytes).map_err(malformed)?;
        return Ok(Validated { header: batch.header, bytes: batch.bytes, log_append_time });
    }
    let sealed = match append_time {
        Some(now) => header.with_log_append_time(now, batch.payload()),
        None => {
            // The records take precedence over a wrong maximum in the header.
            let max_timestamp = summary.map_or(header.max_timestamp, |summary| summary.max_timestamp);
            if header.attributes == batch.header.attributes && max_timestamp == header.max_timestamp {
                return Ok(Validated { header, bytes: batch.bytes, log_append_time });
            }
            header.with_create_time(max_timestamp, batch.payload())
        }
    };
    Ok(Validated { header: sealed, bytes: batch.with_header(&sealed), log_append_time })
}
