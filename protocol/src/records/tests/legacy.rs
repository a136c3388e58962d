use super::super::legacy::{Message, Messages, down_convert, truncate_set, up_convert};
use super::*;

const OLD_CODECS: [&str; 4] = ["none", "gzip", "snappy", "lz4"];

fn messages(bytes: Bytes) -> Vec<Message> {
    Messages::new(bytes, LIMIT).collect::<Result<_, _>>().unwrap()
}

#[test]
fn java_message_sets_are_read_and_up_converted() {
    for magic in [0, 1] {
        for codec in OLD_CODECS {
            let set = vector(&format!("v{magic}-{codec}"));
            let time = |t| if magic == 0 { NO_TIMESTAMP } else { t };
            let got = messages(set.clone());
            let seen: Vec<_> = got.iter().map(|m| (m.offset, m.timestamp, m.magic)).collect();
            assert_eq!(seen, [(42, time(T), magic), (43, time(T + 5), magic), (44, time(T - 7), magic)], "{codec}");

            let batch = only(up_convert(&set, LIMIT).unwrap());
            assert_eq!(batch.compression().unwrap().name(), codec);
            batch.check_frames(LIMIT).unwrap();
            let records = records(&batch);
            assert_eq!(records.len(), 3);
            for (index, (record, message)) in records.iter().zip(&got).enumerate() {
                assert_eq!(record.offset, index as i64);
                assert_eq!((&record.key, &record.value), (&message.key, &message.value));
                assert_eq!(record.timestamp, message.timestamp);
            }
        }
    }
}

#[test]
fn down_converted_batches_are_javas() {
    for magic in [0, 1] {
        for codec in OLD_CODECS {
            let batch = vector(&format!("v2-{codec}"));
            let set = down_convert(&batch, magic, 0, LIMIT).unwrap();
            assert_eq!(messages(set.clone()), messages(vector(&format!("v{magic}-{codec}"))), "{codec} {magic}");
            if codec == "none" {
                assert_eq!(set, vector(&format!("v{magic}-none")));
            }
        }
        assert_eq!(
            down_convert(&vector("v2-zstd"), magic, 0, LIMIT),
            Err(BatchError::UnsupportedCodec { codec: Compression::Zstd })
        );
    }
}

#[test]
fn control_batches_and_earlier_records_are_dropped() {
    let log =
        [vector("v2-commit"), vector("v2-none"), vector("v2-abort"), vector("v1-gzip"), vector("v0-none")].concat();
    let log = Bytes::from(log);
    let offsets = |set: Bytes| messages(set).iter().map(|m| m.offset).collect::<Vec<_>>();
    let v1 = down_convert(&log, 1, 44, LIMIT).unwrap();
    assert_eq!(offsets(v1.clone()), [44, 42, 43, 44, 42, 43, 44], "old messages pass as they are");
    let v0 = down_convert(&log, 0, 0, LIMIT).unwrap();
    assert_eq!(offsets(v0), [42, 43, 44, 42, 43, 44, 42, 43, 44]);
    assert_eq!(messages(truncate_set(&v1, 30)), []);
    assert_eq!(truncate_set(&v1, usize::MAX), v1);
}

#[test]
fn append_time_survives_in_magic_1() {
    let set = down_convert(&vector("v2-append-time"), 1, 0, LIMIT).unwrap();
    for message in messages(set) {
        assert_eq!((message.timestamp, message.attributes.timestamp_type()), (T + 99, TimestampType::LogAppend));
    }
}

#[test]
fn damage_is_named() {
    let set = vector("v1-none");
    let mut flipped = set.to_vec();
    flipped[30] ^= 4;
    assert!(matches!(up_convert(&flipped.into(), LIMIT), Err(BatchError::Crc { .. })));
    assert!(matches!(up_convert(&Bytes::new(), LIMIT), Err(BatchError::Count { .. })));
    assert!(matches!(up_convert(&vector("v2-none"), LIMIT), Err(BatchError::Magic { magic: 2 })));
    assert!(matches!(up_convert(&vector("v1-gzip"), 100), Err(BatchError::Compression(_))));
    let mut size = set.to_vec();
    size[8..12].copy_from_slice(&5_i32.to_be_bytes());
    assert_eq!(up_convert(&size.into(), LIMIT), Err(BatchError::Length { length: 5 }));
}
