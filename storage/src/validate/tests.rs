use esker_protocol::records::{BatchBuilder, MAGIC_V1, Records, legacy};

use super::*;
use esker_protocol::records::Batch;

const NOW: i64 = 1_700_000_000_000;

fn build(codec: Compression, rows: &[(i64, Option<&[u8]>)]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for (delta, (timestamp, key)) in rows.iter().enumerate() {
        builder.append(delta as i32, *timestamp, *key, Some(b"some value"), &[]);
    }
    builder.build().unwrap()
}

fn plain() -> Bytes {
    build(Compression::None, &[(NOW, Some(b"a")), (NOW - 5, None)])
}

/// The same batch with changes in its header and a new CRC.
fn changed(bytes: &Bytes, change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let (batch, _) = Batch::parse(bytes.clone()).unwrap();
    let mut header = batch.header;
    change(&mut header);
    batch.with_header(&header.sealed(batch.payload()))
}

fn join(parts: &[&[u8]]) -> Bytes {
    parts.concat().into()
}

fn check(bytes: Bytes, rules: &ValidateRules) -> Result<Validated, Rejected> {
    let result = validate(Some(bytes), rules, NOW);
    if let Ok(valid) = &result {
        let (batch, rest) = Batch::parse(valid.bytes.clone()).unwrap();
        assert!(rest.is_empty());
        batch.verify_crc().unwrap();
        assert_eq!(batch.header, valid.header);
        batch.check_frames(1 << 20).unwrap();
    }
    result
}

fn times(valid: &Validated) -> Vec<i64> {
    let (batch, _) = Batch::parse(valid.bytes.clone()).unwrap();
    let records: Records = batch.records(1 << 20).unwrap();
    records.map(|record| record.unwrap().timestamp).collect()
}

#[test]
fn a_sound_batch_is_not_touched() {
    for codec in Compression::ALL {
        let bytes = build(codec, &[(NOW, Some(b"a")), (NOW - 5, None)]);
        let valid = check(bytes.clone(), &ValidateRules::default()).unwrap();
        assert_eq!(valid.bytes.as_ptr(), bytes.as_ptr(), "no copy");
        assert_eq!(valid.log_append_time, -1);
    }
    let bytes = join(&[&plain(), b"a tail that is no batch"]);
    assert_eq!(check(bytes, &ValidateRules::default()).unwrap().bytes, plain());
}

#[test]
fn refusals_in_order() {
    use RejectReason::*;
    let rules = ValidateRules::default();
    let kind = |result: Result<Validated, Rejected>| match result.unwrap_err().reason {
        InvalidRecord(_) | MissingKey(_) => 87,
        Corrupt(_) | UnknownMagic(_) => 2,
        TooLarge { .. } => 10,
        InvalidTimestamp(_) => 32,
        UnsupportedCompression(_) => 76,
    };
    assert_eq!(kind(validate(None, &rules, NOW)), 87);
    let bad_crc = |bytes: &Bytes| {
        let mut bytes = bytes.to_vec();
        bytes[20] ^= 1;
        Bytes::from(bytes)
    };
    let with_magic = |magic: u8| {
        let mut bytes = plain().to_vec();
        bytes[16] = magic;
        Bytes::from(bytes)
    };
    let small = ValidateRules { max_message_bytes: 60, ..rules };
    let old = ValidateRules { produce_version: 6, ..rules };
    let idempotent = |sequence| changed(&plain(), |h| (h.producer_id, h.base_sequence) = (5, sequence));
    let table: Vec<(&str, Bytes, &ValidateRules, i32)> = vec![
        ("empty", Bytes::new(), &rules, 87),
        ("short", plain().slice(..40), &rules, 87),
        ("cut", plain().slice(..plain().len() - 1), &rules, 87),
        ("two", join(&[&plain(), &plain()]), &rules, 87),
        ("two, the second of an old format", join(&[&plain(), &with_magic(1)]), &rules, 87),
        ("old format", with_magic(1), &rules, 87),
        ("unknown format", with_magic(3), &rules, 2),
        ("zstd to an old version", build(Compression::Zstd, &[(NOW, None)]), &old, 76),
        ("unknown codec", changed(&plain(), |h| h.attributes.0 = 6), &rules, 76),
        ("base offset", changed(&plain(), |h| h.base_offset = 1), &small, 87),
        ("size before CRC", bad_crc(&plain()), &small, 10),
        ("CRC", bad_crc(&plain()), &rules, 2),
        ("CRC before counts", bad_crc(&changed(&plain(), |h| h.records_count = 7)), &rules, 2),
        ("no records", changed(&plain(), |h| (h.records_count, h.last_offset_delta) = (0, -1)), &rules, 87),
        ("count", changed(&plain(), |h| h.records_count = 3), &rules, 87),
        ("delta", changed(&plain(), |h| h.last_offset_delta = i32::MAX), &rules, 87),
        ("more counted", changed(&plain(), |h| (h.records_count, h.last_offset_delta) = (3, 2)), &rules, 87),
        ("fewer counted", changed(&plain(), |h| (h.records_count, h.last_offset_delta) = (1, 0)), &rules, 87),
        ("control", changed(&plain(), |h| h.attributes = h.attributes.with_control(true)), &rules, 87),
        ("no sequence", idempotent(-1), &rules, 87),
    ];
    for (what, bytes, rules, code) in table {
        assert_eq!(kind(check(bytes, rules)), code, "{what}");
    }
    assert!(check(idempotent(0), &rules).is_ok());
}

#[test]
fn compacted_topics_need_keys() {
    let rules = ValidateRules { compacted: true, ..ValidateRules::default() };
    for codec in Compression::ALL {
        let rows: &[(i64, Option<&[u8]>)] = &[(NOW, Some(b"a")), (NOW, None), (NOW, Some(b"")), (NOW, None)];
        let rejected = check(build(codec, rows), &rules).unwrap_err();
        assert!(matches!(rejected.reason, RejectReason::MissingKey(_)));
        assert_eq!(rejected.record_errors.iter().map(|e| e.batch_index).collect::<Vec<_>>(), [1, 3]);
        assert!(check(build(codec, &[(NOW, Some(b"a"))]), &rules).is_ok());
    }
}

#[test]
fn timestamps_stay_within_limits() {
    let hour = 3_600_000;
    let rules = ValidateRules::default();
    let bounded = ValidateRules { timestamp_before_max_ms: 1000, ..rules };
    for codec in Compression::ALL {
        let at = |time| build(codec, &[(NOW, None), (time, None)]);
        assert!(check(at(NOW + hour), &rules).is_ok());
        assert!(check(at(-1), &rules).is_ok());
        assert!(check(at(0), &rules).is_ok());
        let rejected = check(at(NOW + hour + 1), &rules).unwrap_err();
        assert!(matches!(rejected.reason, RejectReason::InvalidTimestamp(_)));
        assert_eq!(rejected.record_errors[0].batch_index, 1);
        assert!(check(at(NOW - 1000), &bounded).is_ok());
        assert!(check(at(NOW - 1001), &bounded).is_err());
        assert!(check(at(-1), &bounded).is_ok());
        let append_time = ValidateRules { timestamp_type: TimestampType::LogAppend, ..bounded };
        assert!(check(at(NOW - 1001), &append_time).is_ok(), "append time replaces whatever was sent");
    }
}

#[test]
fn append_time_is_stamped() {
    let rules = ValidateRules { timestamp_type: TimestampType::LogAppend, ..ValidateRules::default() };
    for codec in Compression::ALL {
        let sent = build(codec, &[(5, Some(b"a")), (7, None)]);
        let valid = check(sent.clone(), &rules).unwrap();
        assert_eq!((valid.log_append_time, valid.header.max_timestamp), (NOW, NOW));
        assert_eq!(times(&valid), [NOW, NOW]);
        let claimed = changed(&sent, |h| h.attributes = h.attributes.with_timestamp_type(TimestampType::LogAppend));
        assert!(matches!(check(claimed.clone(), &rules).unwrap_err().reason, RejectReason::InvalidTimestamp(_)));
        // A topic with create time takes it, and the bit goes.
        let valid = check(claimed, &ValidateRules::default()).unwrap();
        assert_eq!(times(&valid), [5, 7]);
        assert_eq!((valid.header.max_timestamp, valid.log_append_time), (7, -1));
    }
}

#[test]
fn headers_are_put_right() {
    let wrong_max = changed(&plain(), |h| h.max_timestamp = 12);
    assert_eq!(check(wrong_max, &ValidateRules::default()).unwrap().header.max_timestamp, NOW);
    let horizon = changed(&plain(), |h| h.attributes = h.attributes.with_delete_horizon(true));
    let valid = check(horizon, &ValidateRules::default()).unwrap();
    assert!(!valid.header.attributes.has_delete_horizon());
    assert_eq!(times(&valid), [NOW, NOW - 5]);
    let unused = changed(&plain(), |h| h.attributes.0 |= 0x4000u16 as i16 & !0x40);
    assert!(check(unused, &ValidateRules::default()).is_ok());
}

#[test]
fn topics_have_their_own_codec() {
    for from in Compression::ALL {
        for codec in Compression::ALL {
            let compression = CompressionTarget::Codec { codec, level: None };
            let rules = ValidateRules { compression, ..ValidateRules::default() };
            let sent = changed(&build(from, &[(NOW, Some(b"a")), (NOW + 1, None)]), |h| {
                (h.producer_id, h.producer_epoch, h.base_sequence) = (4, 1, 9);
            });
            let valid = check(sent.clone(), &rules).unwrap();
            assert_eq!(valid.header.attributes.compression().unwrap(), codec);
            assert_eq!((valid.header.producer_id, valid.header.base_sequence), (4, 9));
            assert_eq!(times(&valid), [NOW, NOW + 1]);
            assert_eq!(valid.bytes == sent, from == codec);
        }
    }
    // The limit also applies to the rewritten batch.
    let mut builder = BatchBuilder::new(Compression::Gzip);
    builder.append(0, NOW, None, Some(&[0; 10_000]), &[]);
    let compression = CompressionTarget::Codec { codec: Compression::None, level: None };
    let rules = ValidateRules { compression, max_message_bytes: 5000, ..ValidateRules::default() };
    assert!(matches!(check(builder.build().unwrap(), &rules).unwrap_err().reason, RejectReason::TooLarge { .. }));
}

#[test]
fn compressed_batches_are_opened_on_demand() {
    let broken = |codec| {
        let (batch, _) = Batch::parse(build(codec, &[(NOW, None)])).unwrap();
        let mut bytes = batch.bytes[..61].to_vec();
        bytes.extend_from_slice(&[0xff; 30]);
        let header = BatchHeader { batch_length: bytes.len() as i32 - 12, ..batch.header };
        let payload = bytes[61..].to_vec();
        bytes[..61].copy_from_slice(&header.sealed(&payload).encode());
        Bytes::from(bytes)
    };
    let full = ValidateRules { full: true, ..ValidateRules::default() };
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        assert!(validate(Some(broken(codec)), &ValidateRules::default(), NOW).is_ok(), "the design's bargain");
        assert!(matches!(check(broken(codec), &full).unwrap_err().reason, RejectReason::InvalidRecord(_)));
    }
    let mut builder = BatchBuilder::new(Compression::Gzip);
    builder.append(0, NOW, None, Some(&[0; 10_000]), &[]);
    let rules = ValidateRules { max_decompressed_bytes: 5000, ..full };
    assert!(matches!(check(builder.build().unwrap(), &rules).unwrap_err().reason, RejectReason::InvalidRecord(_)));
}

#[test]
fn old_clients_get_their_messages_converted() {
    let down = legacy::down_convert(&plain(), MAGIC_V1, 0, 1 << 20).unwrap();
    let old = ValidateRules { produce_version: 2, ..ValidateRules::default() };
    let valid = check(down.clone(), &old).unwrap();
    assert_eq!(times(&valid), [NOW, NOW - 5]);
    assert!(check(plain(), &old).is_ok(), "new batches pass as well");
    assert!(check(down.clone(), &ValidateRules::default()).is_err());
    let mut bad = down.to_vec();
    *bad.last_mut().unwrap() ^= 1;
    assert!(matches!(check(bad.into(), &old).unwrap_err().reason, RejectReason::Corrupt(_)));
    let compacted = ValidateRules { compacted: true, ..old };
    assert_eq!(check(down, &compacted).unwrap_err().record_errors[0].batch_index, 1);
}

#[test]
fn rubbish_is_refused_without_a_panic() {
    let sent = plain();
    for at in 0..sent.len() {
        for bit in 0..8 {
            let mut bytes = sent.to_vec();
            bytes[at] ^= 1 << bit;
            // Leader epoch aside (12..16: not in the CRC, replaced), every flip is noticed.
            assert_eq!(check(bytes.into(), &ValidateRules::default()).is_ok(), (12..16).contains(&at), "{at} {bit}");
        }
    }
    for len in 0..sent.len() {
        assert!(check(sent.slice(..len), &ValidateRules::default()).is_err());
    }
}
