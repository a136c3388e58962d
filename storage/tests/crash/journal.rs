//! A round of the journal that ends between its write and its sync: records that the next start reports as durable must survive a
//! power cut.

use std::sync::Arc;

use esker_protocol::{compression::Compression, records::Batch as Parsed, records::BatchBuilder};
use esker_storage::{AppendBatch, Log, LogConfig, LogManager, Origin, Uuid};

use crate::{
    disk::{EIO, KILL, Plan, SimDisk},
    driver::{NOW, flush_round, open},
    folder,
    rng::Rng,
    state::Image,
};

fn append(log: &Log, value: &[u8]) {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, NOW, None, Some(value), &[]);
    let (batch, _) = Parsed::parse(builder.build().unwrap()).unwrap();
    let append = AppendBatch { header: &batch.header, bytes: &batch.bytes };
    log.append(append, Origin::Client { transaction_v2: false }, 0, NOW).unwrap();
}

fn keep_up(manager: &LogManager) {
    manager.journals().for_each(|(_, journal)| journal.keep_up());
}

/// Interrupts a round at its `step`-th operation, starts, and cuts the power. Returns whether the round came so far, and the
/// durable offset after the start.
fn cut_off(rounds_before: usize, step: usize, error: i32, luck: u64) -> (bool, i64) {
    let (root, config) = (folder(), LogConfig::default());
    let dir = root.path().join("data");
    let disk = SimDisk::new(root.path(), &Image::new());
    let manager = open(&disk, &dir, &config).unwrap();
    let log = manager.create("t", 0, Uuid([7; 16]), config.clone(), NOW).unwrap();
    append(&log, b"first");
    log.flush().unwrap();
    manager.flush_checkpoints().unwrap();
    keep_up(&manager);
    for _ in 0..rounds_before {
        append(&log, b"before");
        flush_round(&[Arc::clone(&log)]).unwrap();
    }
    let acknowledged = log.durable_offset();
    append(&log, &[b'x'; 900]);
    let at = disk.steps() + step;
    disk.fail(Some(Plan { steps: at..at + 1, error }));
    let failed = LogManager::flush_by_journal(&[Arc::clone(&log)]).is_err();
    disk.fail(None);
    drop((log, manager));

    let disk = disk.next_process();
    let manager = open(&disk, &dir, &config).unwrap();
    let durable = manager.get("t", 0).unwrap().durable_offset();
    assert!(durable >= acknowledged, "step {step}: {durable} after {acknowledged}");
    assert_eq!(manager.journals().map(|(_, journal)| journal.stats().damaged).sum::<u64>(), 0);
    let image = disk.state().image(&mut Rng::new(luck));
    drop(manager);
    let root = folder();
    let disk = SimDisk::new(root.path(), &image);
    let manager = open(&disk, &root.path().join("data"), &config).unwrap();
    let end = manager.get("t", 0).unwrap().log_end_offset();
    assert!(end >= durable, "step {step}, luck {luck}: ends at {end}, and {durable} was said to be durable");
    assert_eq!(manager.journals().map(|(_, journal)| journal.stats().damaged).sum::<u64>(), 0, "step {step}");
    (failed, durable)
}

#[test]
fn what_a_start_finds_in_the_journal_it_makes_durable() {
    for error in [KILL, EIO] {
        for rounds_before in [0, 1] {
            let mut whole = 0;
            for step in 0..8 {
                for luck in 0..12 {
                    let (failed, durable) = cut_off(rounds_before, step, error, luck);
                    whole += u32::from(failed && durable == 2 + rounds_before as i64);
                }
            }
            assert!(whole > 0, "no round was cut off between its write and its sync");
        }
    }
}
