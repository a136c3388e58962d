//! Records without a timestamp are as old as the modification time of their file, also after a restart.

use esker_protocol::{compression::Compression, records::BatchBuilder};

use super::*;
use crate::io::{LogFile, Open};

const HOUR: i64 = 3_600_000;

fn append_timeless(log: &Log) {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, -1, None, Some(&[7; 100]), &[]);
    append_bytes(log, builder.build().unwrap(), CLIENT, 0).unwrap();
}

fn file(log: &Log, base: i64) -> Arc<dyn LogFile> {
    OsDisk.open(&log.dir().join(format!("{base:020}.log")), Open::Existing).unwrap()
}

#[test]
fn retention_goes_by_the_files_time() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { retention_ms: HOUR, file_delete_delay_ms: 0, ..small() };
    let mut opening = Opening::new(config);
    let log = opening.open(dir.path());
    for _ in 0..3 {
        append_timeless(&log);
        log.advance_high_watermark(i64::MAX);
        log.roll(NOW).unwrap();
    }
    let now = file(&log, 0).modified_ms().unwrap();
    assert_eq!(log.retention_pass(now + HOUR - 60_000).unwrap().segments, 0);
    file(&log, 0).set_modified_ms(now - 2 * HOUR);
    file(&log, 2).set_modified_ms(now - 2 * HOUR);
    assert_eq!(log.retention_pass(now).unwrap().segments, 1, "the second one is younger");
    log.close_clean(true).unwrap();
    drop(log);
    (opening.clean, opening.log_start, opening.high_watermark) = (true, 1, 3);
    let log = opening.open(dir.path());
    assert_eq!(log.retention_pass(now).unwrap().segments, 0);
    file(&log, 1).set_modified_ms(now - 2 * HOUR);
    assert_eq!(log.retention_pass(now).unwrap().segments, 2, "a restart makes nothing young again");
    assert_eq!(log.log_start_offset(), 3);
}

#[test]
fn a_stop_keeps_the_age_of_the_active_segment() {
    let dir = tempfile::tempdir().unwrap();
    let log = Opening::new(small()).open(dir.path());
    append_timeless(&log);
    let old = 1_600_000_000_000;
    file(&log, 0).set_modified_ms(old);
    // Frees the reserved space past the end.
    log.close_clean(true).unwrap();
    assert_eq!(file(&log, 0).modified_ms().unwrap(), old);
}
