use super::*;
use crate::test_support::disk::{Faults, faulty};

fn try_append(log: &Log, value: &[u8]) -> Result<Appended, AppendError> {
    append_bytes(log, batch(esker_protocol::compression::Compression::None, &[(NOW, value)]), CLIENT, 0)
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    for reserves in [true, false] {
        let faults = Arc::new(Faults::default());
        faults.left.store(3000, Ordering::Relaxed);
        faults.reserves.store(reserves, Ordering::Relaxed);
        let dir = tempfile::tempdir().unwrap();
        let log = Opening::new(small()).open_on(faulty(&faults), dir.path());
        let mut written = 0i64;
        for round in 0..5 {
            let mut refused = 0;
            while refused < 3 {
                match try_append(&log, &[written as u8; 100]) {
                    Ok(done) => {
                        assert_eq!(done.base_offset, written);
                        written += 1;
                    }
                    Err(AppendError::DiskFull(_)) => refused += 1,
                    Err(other) => panic!("{other}"),
                }
                assert_eq!(log.log_end_offset(), written);
                assert!(written < 1000, "a full disk takes all of it");
            }
            assert_eq!(read_all(&log, 0, 500).len() as i64, written);
            assert!(!log.is_offline());
            // A log opened from the current files has the acknowledged records.
            let image = tempfile::tempdir().unwrap();
            copy(dir.path(), image.path());
            assert_eq!(Opening::new(small()).open(image.path()).log_end_offset(), written, "round {round}");
            faults.left.store(1777, Ordering::Relaxed);
        }
        assert!(written > 30);
    }
}

#[test]
fn a_broken_disk_takes_the_dir_offline() {
    for sync in [true, false] {
        let faults = Arc::new(Faults::default());
        faults.left.store(i64::MAX, Ordering::Relaxed);
        let dir = tempfile::tempdir().unwrap();
        let log = Opening::new(small()).open_on(faulty(&faults), dir.path());
        try_append(&log, b"one").unwrap();
        log.flush().unwrap();
        assert_eq!(log.unflushed(), None);
        try_append(&log, b"two").unwrap();
        assert!(log.unflushed().is_some_and(|(bytes, _)| bytes > 3));
        if sync {
            faults.broken_sync.store(true, Ordering::Relaxed);
            assert!(matches!(log.flush(), Err(LogError::File(_))));
            faults.broken_sync.store(false, Ordering::Relaxed);
        } else {
            faults.broken_write.store(true, Ordering::Relaxed);
            assert!(matches!(try_append(&log, b"three"), Err(AppendError::File(_))));
            faults.broken_write.store(false, Ordering::Relaxed);
        }
        assert!(matches!(log.flush(), Err(LogError::Offline { .. })), "for good");
        assert!(matches!(try_append(&log, b"three"), Err(AppendError::Offline { .. })));
        assert_eq!((log.recovery_point(), log.unflushed()), (1, None), "no flush can help");
        assert_eq!(read_all(&log, 0, 500).len(), 2, "what is there is still served");
    }
}

#[test]
fn a_flush_that_failed_is_as_due_as_before() {
    let faults = Arc::new(Faults::default());
    faults.left.store(i64::MAX, Ordering::Relaxed);
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { flush_messages: 3, flush_ms: 500, ..small() };
    let log = Opening::new(config).open_on(faulty(&faults), dir.path());
    assert!(!try_append(&log, b"one").unwrap().flush_due);
    assert!(!try_append(&log, b"two").unwrap().flush_due);
    faults.no_handles.store(true, Ordering::Relaxed);
    assert!(matches!(log.flush(), Err(LogError::File(_))));
    faults.no_handles.store(false, Ordering::Relaxed);
    assert!(!log.is_offline(), "it may be tried again");
    assert!(log.flush_due(NOW + 500), "flush.ms counts from the first append");
    assert!(try_append(&log, b"three").unwrap().flush_due, "flush.messages counts all three");
    log.flush().unwrap();
    assert!(!log.flush_due(i64::MAX) && !try_append(&log, b"four").unwrap().flush_due);
}
