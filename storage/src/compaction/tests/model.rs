use std::collections::{BTreeMap, HashMap};

use super::*;

/// A small generator: the same numbers for the same seed.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[derive(Default)]
struct Model {
    /// The valid records: those outside of transactions and in committed ones.
    good: BTreeMap<i64, (String, Option<String>)>,
    /// Records of open transactions, by producer.
    open: HashMap<i64, Vec<(i64, String, Option<String>)>>,
    sequences: HashMap<i64, i32>,
}

impl Model {
    fn step(&mut self, log: &Log, dice: &mut Dice, number: u64) {
        let codecs = [Compression::None, Compression::Lz4, Compression::Zstd, Compression::Gzip, Compression::Snappy];
        let codec = codecs[dice.roll(5) as usize];
        let producer = dice.roll(4) as i64;
        if producer > 0 && self.open.contains_key(&producer) && dice.roll(3) == 0 {
            let committed = dice.roll(2) == 0;
            let records = self.open.remove(&producer).unwrap();
            marker(log, producer, committed);
            if committed {
                self.good.extend(records.into_iter().map(|(offset, key, value)| (offset, (key, value))));
            }
            return;
        }
        let records: Vec<(String, Option<String>)> = (0..=dice.roll(5))
            .map(|i| {
                let value =
                    (dice.roll(5) > 0).then(|| format!("value-{number}-{i}-{}", "x".repeat(dice.roll(60) as usize)));
                (format!("key-{}", dice.roll(25)), value)
            })
            .collect();
        let mut builder = BatchBuilder::new(codec);
        if producer > 0 {
            let sequence = self.sequences.entry(producer).or_default();
            builder = builder.producer(producer, 0, *sequence).transactional(true);
            *sequence += records.len() as i32;
        }
        for (delta, (key, value)) in records.iter().enumerate() {
            let value = value.as_ref().map(String::as_bytes);
            builder.append(delta as i32, NOW, Some(key.as_bytes()), value, &[]);
        }
        let base = append(log, builder.build().unwrap(), CLIENT);
        let records = (base..).zip(records);
        match producer {
            0 => self.good.extend(records),
            _ => {
                let open = self.open.entry(producer).or_default();
                open.extend(records.map(|(offset, (key, value))| (offset, key, value)));
            }
        }
    }

    fn finish_transactions(&mut self, log: &Log) {
        for producer in self.open.drain().map(|(producer, _)| producer) {
            marker(log, producer, false);
        }
    }

    /// Compares the records that a consumer reads with the model.
    fn check(&self, log: &Log, what: &str) {
        let mut latest: BTreeMap<&str, i64> = BTreeMap::new();
        latest.extend(self.good.iter().map(|(offset, (key, _))| (key.as_str(), *offset)));
        let open: Vec<i64> = self.open.values().flatten().map(|(offset, ..)| *offset).collect();
        let found = read_records(log, true);
        let found: Vec<&Seen> = found.iter().filter(|record| !open.contains(&record.offset)).collect();
        assert!(found.is_sorted_by(|a, b| a.offset < b.offset), "{what}: order");
        for record in &found {
            let written = self.good.get(&record.offset).map(|(key, value)| (key.as_str(), value));
            assert_eq!(written, Some((record.key.as_str(), &record.value)), "{what}: offset {}", record.offset);
        }
        for (key, offset) in latest {
            let there = found.iter().any(|record| record.offset == offset);
            assert!(there || self.good[&offset].1.is_none(), "{what}: last value of {key} at {offset}");
        }
    }
}

/// Cleans until nothing is due.
fn clean_all(cleaner: &Cleaner, logs: &LogManager, now_ms: i64) {
    let mut passes = 0;
    while cleaner.run_pass(logs, now_ms) {
        passes += 1;
        assert!(passes < 1000, "compaction makes progress");
    }
    assert_eq!(cleaner.stats().uncleanable_partitions, 0);
}

/// Makes all records cleanable.
fn roll(log: &Log) {
    for i in 0..4 {
        append_keyed(log, Compression::None, &[(&format!("filler-{i}"), Some(&"f".repeat(1200)))]);
    }
}

#[test]
fn last_values_stay_whatever_happens() {
    for seed in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let mut logs = open(dir.path());
        let mut log = create(&logs);
        let (mut model, mut dice) = (Model::default(), Dice(seed));
        // Some runs with a map so small that a round takes many passes.
        let cleaner = cleaner(if seed % 3 == 0 { 15 * offset_map::SLOT_BYTES } else { 1 << 20 });
        for round in 0..5 {
            (0..120).for_each(|number| model.step(&log, &mut dice, number));
            let what = format!("seed {seed}, round {round}");
            model.check(&log, &what);
            let before = log.size_bytes();
            clean_all(&cleaner, &logs, NOW + round * RETENTION / 2);
            assert!(log.size_bytes() < before, "{what}: something went");
            assert!(log.cleaned_offset() <= log.last_stable_offset());
            model.check(&log, &what);
            if round % 2 == 1 {
                logs.flush_checkpoints().unwrap();
                let (start, cleaned) = (log.log_start_offset(), log.cleaned_offset());
                drop(log);
                // Some stops are clean, some are not.
                if seed % 2 == 0 {
                    logs.shutdown_clean().unwrap();
                }
                drop(logs);
                logs = open(dir.path());
                log = create(&logs);
                log.advance_high_watermark(i64::MAX);
                assert_eq!((log.log_start_offset(), log.cleaned_offset()), (start, cleaned), "{what}");
                model.check(&log, &format!("{what}, opened again"));
            }
        }
        // Once nothing is open and all horizons have passed, each key has at most one record, and no aborted one is left.
        model.finish_transactions(&log);
        for later in 1..4 {
            let base = log.log_end_offset();
            roll(&log);
            (base..).zip(0..4).for_each(|(offset, i)| {
                model.good.insert(offset, (format!("filler-{i}"), Some("f".repeat(1200))));
            });
            clean_all(&cleaner, &logs, NOW + later * 10 * RETENTION);
        }
        model.check(&log, "at the end");
        let cleaned = log.cleaned_offset();
        let mut keys = std::collections::HashSet::new();
        for record in read_records(&log, false).into_iter().filter(|record| record.offset < cleaned) {
            assert!(model.good.contains_key(&record.offset), "seed {seed}: aborted record {record:?} is left");
            assert!(keys.insert(record.key.clone()), "seed {seed}: {} is there twice", record.key);
        }
        // A bare header that ends a segment, or has a producer's last sequence, keeps the marker of its transaction.
        let allowed = 3 + log.segment_count();
        let (mut tombstones, mut markers) = (0, 0);
        for batch in batches(&log).iter().filter(|batch| batch.header.last_offset() < cleaned) {
            markers += usize::from(batch.header.attributes.is_control() && batch.header.records_count > 0);
            tombstones += batch.records(1 << 20).unwrap().filter(|r| r.as_ref().unwrap().value.is_none()).count();
        }
        assert_eq!((tombstones, markers > allowed), (0, false), "seed {seed}: horizons have passed");
    }
}

#[test]
fn a_tombstone_lives_until_its_horizon() {
    let dir = tempfile::tempdir().unwrap();
    let logs = open(dir.path());
    let log = create(&logs);
    let cleaner = cleaner(1 << 20);
    append_keyed(&log, Compression::Lz4, &[("a", Some("1")), ("b", Some("1"))]);
    let tombstone = append_keyed(&log, Compression::Lz4, &[("a", None), ("c", Some("1"))]);
    let look = |now_ms: i64| {
        roll(&log);
        clean_all(&cleaner, &logs, now_ms);
        let there = read_records(&log, true).iter().any(|record| record.offset == tombstone);
        let horizon =
            batches(&log).iter().find(|b| b.header.base_offset == tombstone).and_then(|b| b.header.delete_horizon());
        let times: Vec<i64> =
            batches(&log).iter().flat_map(|b| b.records(1 << 20).unwrap()).map(|r| r.unwrap().timestamp).collect();
        assert!(times.iter().all(|time| *time == NOW), "timestamps stay");
        (there, horizon)
    };
    assert_eq!(look(NOW), (true, Some(NOW + RETENTION)));
    assert_eq!(look(NOW + RETENTION - 1), (true, Some(NOW + RETENTION)), "the horizon does not move");
    assert!(!look(NOW + RETENTION).0);
    assert_eq!(
        read_records(&log, true).iter().filter(|record| ["a", "b", "c"].contains(&record.key.as_str())).count(),
        2
    );
}

#[test]
fn a_producers_last_sequence_stays() {
    let dir = tempfile::tempdir().unwrap();
    let logs = open(dir.path());
    let log = create(&logs);
    let mut builder = BatchBuilder::new(Compression::None).producer(7, 0, 0);
    builder.append(0, NOW, Some(b"a"), Some(b"1"), &[]);
    let sent = builder.build().unwrap();
    let base = append(&log, sent.clone(), CLIENT);
    append_keyed(&log, Compression::None, &[("a", Some("2"))]);
    roll(&log);
    clean_all(&cleaner(1 << 20), &logs, NOW);
    let kept = batches(&log).into_iter().find(|batch| batch.header.base_offset == base).unwrap();
    assert_eq!((kept.header.records_count, kept.header.producer_id, kept.header.last_sequence()), (0, 7, 0));
    assert_eq!(read_records(&log, true)[0].value.as_deref(), Some("2"));
    assert_eq!(append(&log, sent, CLIENT), base, "a retry is known");
}

#[test]
fn readers_keep_what_they_hold() {
    let dir = tempfile::tempdir().unwrap();
    let logs = open(dir.path());
    let log = create(&logs);
    for i in 0..100 {
        append_keyed(&log, Compression::None, &[("a", Some(&format!("{i}-{}", "x".repeat(100))))]);
    }
    let held = log.read(0, 2000, i64::MAX, true).unwrap().records;
    let copy = held.to_vec();
    let before = log.size_bytes();
    clean_all(&cleaner(1 << 20), &logs, NOW);
    assert!(log.size_bytes() < before / 3);
    assert_eq!(held, copy);
    let files = std::fs::read_dir(log.dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let leftover: Vec<String> =
        files.filter(|name| [".cleaned", ".swap", ".deleted"].iter().any(|end| name.ends_with(end))).collect();
    assert!(leftover.is_empty(), "{leftover:?}");
    logs.flush_checkpoints().unwrap();
    let text = std::fs::read_to_string(dir.path().join("cleaner-offset-checkpoint")).unwrap();
    assert_eq!(text, format!("0\n1\nt 0 {}\n", log.cleaned_offset()));
}
