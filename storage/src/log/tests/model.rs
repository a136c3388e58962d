use super::*;
use esker_protocol::compression::Compression;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Op {
    Append(u8, usize),
    Roll,
    Truncate(u16),
    Reopen { clean: bool },
    Crash { index_saved: bool },
    Flush,
    Retain(u16),
    StartAnew(u8),
    Read(u16, u16),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (1u8..6, 1usize..300).prop_map(|(count, size)| Op::Append(count, size)),
        1 => Just(Op::Roll),
        1 => any::<u16>().prop_map(Op::Truncate),
        1 => any::<bool>().prop_map(|clean| Op::Reopen { clean }),
        1 => any::<bool>().prop_map(|index_saved| Op::Crash { index_saved }),
        1 => Just(Op::Flush),
        1 => any::<u16>().prop_map(Op::Retain),
        1 => (0u8..20).prop_map(Op::StartAnew),
        4 => (any::<u16>(), 1u16..3000).prop_map(|(from, max)| Op::Read(from, max)),
    ]
}

/// A log as a list.
#[derive(Debug, Default)]
struct Model {
    start: i64,
    end: i64,
    /// Of each batch: first offset, records' values.
    batches: Vec<(i64, Vec<Vec<u8>>)>,
}

impl Model {
    fn records(&self) -> Vec<(i64, Vec<u8>)> {
        let rows = self.batches.iter().flat_map(|(base, values)| (*base..).zip(values.iter().cloned()));
        rows.filter(|(offset, _)| *offset >= self.start).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_a_list(ops in proptest::collection::vec(op(), 1..60), big in any::<bool>(), limit in 1usize..4) {
        let config = if big { LogConfig { index_interval_bytes: 300, ..LogConfig::default() } } else { small() };
        let mut dir = tempfile::tempdir().unwrap();
        // With a small limit of open files, slices must still keep their data.
        let opening = |config: &LogConfig| {
            let opening = Opening::new(config.clone());
            opening.files.set_limit(limit);
            opening
        };
        let mut log = opening(&config).open(dir.path());
        let mut model = Model::default();
        let mut slices: Vec<(Bytes, Vec<u8>)> = Vec::new();
        for (step, op) in ops.into_iter().enumerate() {
            match op {
                Op::Append(count, size) => {
                    let values: Vec<Vec<u8>> = (0..count).map(|i| vec![step as u8 ^ i; size]).collect();
                    let rows: Vec<(i64, &[u8])> = values.iter().map(|v| (NOW + step as i64, v.as_slice())).collect();
                    let done = append_bytes(&log, batch(Compression::None, &rows), CLIENT, 0).unwrap();
                    prop_assert_eq!(done.base_offset, model.end);
                    model.end += i64::from(count);
                    model.batches.push((done.base_offset, values));
                }
                Op::Roll => log.roll(NOW).unwrap(),
                Op::Flush => { log.flush().unwrap(); }
                Op::Truncate(at) => {
                    // A follower cuts at a batch's beginning.
                    let at = match model.batches.get(usize::from(at) % (model.batches.len() + 1)) {
                        Some((base, _)) => (*base).max(model.start),
                        None => model.end,
                    };
                    if model.batches.iter().all(|(base, values)| *base >= at || base + values.len() as i64 <= at) {
                        log.truncate_to(at).unwrap();
                        model.batches.retain(|(base, _)| *base < at);
                        model.end = model.end.min(at);
                    }
                }
                Op::StartAnew(skip) => {
                    if step % 3 == 0 {
                        let at = model.end + i64::from(skip);
                        log.truncate_fully_and_start_at(at).unwrap();
                        model = Model { start: at, end: at, batches: Vec::new() };
                    }
                }
                Op::Retain(to) => {
                    log.advance_high_watermark(model.end);
                    let to = model.start + i64::from(to) % (model.end - model.start + 1);
                    prop_assert_eq!(log.advance_log_start(to).unwrap(), to);
                    model.start = to;
                    log.retention_pass(NOW).unwrap();
                    prop_assert!(log.log_start_offset() == to);
                }
                Op::Reopen { clean } => {
                    // A new process has none of the old one's slices.
                    slices.clear();
                    if clean {
                        log.close_clean(true).unwrap();
                    }
                    let opening = Opening {
                        recovery_point: log.recovery_point(),
                        log_start: model.start,
                        high_watermark: log.high_watermark(),
                        clean,
                        ..opening(&config)
                    };
                    drop(log);
                    log = opening.open(dir.path());
                }
                Op::Crash { index_saved } => {
                    if index_saved {
                        log.save_indexes().unwrap();
                    }
                    let image = tempfile::tempdir().unwrap();
                    copy(dir.path(), image.path());
                    let recovery_point = log.recovery_point();
                    let opening = Opening { recovery_point, log_start: model.start, ..opening(&config) };
                    log = opening.open(image.path());
                    dir = image;
                }
                Op::Read(from, max) => {
                    let from = model.start + i64::from(from) % (model.end - model.start + 1);
                    let info = match max % 3 {
                        0 => log.read(from, usize::from(max), i64::MAX, true).unwrap(),
                        1 => log.read_cold(from, usize::from(max), i64::MAX, true).unwrap(),
                        // A closed file counts as cold.
                        _ => match log.read_resident(from, usize::from(max), i64::MAX, true).unwrap() {
                            Some(info) => info,
                            None => log.read_cold(from, usize::from(max), i64::MAX, true).unwrap(),
                        },
                    };
                    let got: Vec<_> = records(&info.records).into_iter().filter(|(offset, _)| *offset >= from).collect();
                    let all = model.records();
                    let skip = all.iter().position(|(offset, _)| *offset >= from).unwrap_or(all.len());
                    prop_assert_eq!(&got[..], &all[skip..skip + got.len()]);
                    prop_assert!(!got.is_empty() || from == model.end);
                    slices.push((info.records.clone(), info.records.to_vec()));
                }
            }
            prop_assert_eq!((log.log_start_offset(), log.log_end_offset()), (model.start, model.end));
        }
        prop_assert_eq!(read_all(&log, model.start, 1000), model.records());
        for (slice, before) in slices {
            prop_assert_eq!(slice, before);
        }
    }
}
