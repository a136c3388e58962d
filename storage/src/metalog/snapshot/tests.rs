use super::chunks::{END, META, RECORDS};
use super::*;
use crate::{
    io::OsDisk,
    metalog::types::{LogId, VoterId},
};

fn meta(index: u64) -> SnapshotMeta {
    let id = LogId { term: 1, leader: VoterId::default(), index };
    SnapshotMeta { last: Some(id), ..SnapshotMeta::default() }
}

fn open(dir: &Path) -> Result<Snapshots, MetadataError> {
    Snapshots::open(Arc::new(OsDisk), dir)
}

fn chunks(chunks: &[&'static [u8]]) -> Vec<io::Result<Bytes>> {
    chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk))).collect()
}

fn content(snapshot: &SnapshotFile) -> Result<Vec<Bytes>, MetadataError> {
    snapshot.chunks().collect()
}

#[test]
fn it_comes_back_chunk_by_chunk_and_the_old_one_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = open(dir.path()).unwrap();
    assert!(snapshots.current().is_none());
    let first = snapshots.write(&meta(5), chunks(&[b"one", b"two"])).unwrap();
    assert_eq!(content(&first).unwrap(), [&b"one"[..], b"two"]);
    snapshots.write(&meta(9), chunks(&[b"three"])).unwrap();
    assert_eq!(content(&first).unwrap(), [&b"one"[..], b"two"]);
    let again = open(dir.path()).unwrap().current().unwrap();
    assert_eq!(again.meta(), &meta(9));
    assert_eq!(content(&again).unwrap(), [&b"three"[..]]);
    // A builder that ends after a newer snapshot was installed.
    assert_eq!(snapshots.write(&meta(7), chunks(&[b"late"])).unwrap().meta(), &meta(9));
    assert_eq!(content(&open(dir.path()).unwrap().current().unwrap()).unwrap(), [&b"three"[..]]);
    snapshots.close();
    assert!(snapshots.write(&meta(10), chunks(&[])).is_err());
}

#[test]
fn the_last_good_one_stays_when_the_next_fails() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = open(dir.path()).unwrap();
    snapshots.write(&meta(5), chunks(&[b"good"])).unwrap();
    let failing = [Ok(Bytes::from_static(b"half")), Err(io::Error::other("no more"))];
    assert!(snapshots.write(&meta(6), failing).is_err());
    assert_eq!(snapshots.current().unwrap().meta(), &meta(5));
    let again = open(dir.path()).unwrap();
    assert_eq!(content(&again.current().unwrap()).unwrap(), [&b"good"[..]]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "what was half written is removed");
}

#[test]
fn the_file_has_exactly_these_bytes() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap().write(&SnapshotMeta::default(), chunks(&[b"r"])).unwrap();
    let found = std::fs::read(dir.path().join(NAME)).unwrap();
    // The checksums were calculated elsewhere.
    let mut expected = b"esker-ms\x00\x01".to_vec();
    expected.extend([0x8f, 0xe2, 0x14, 0xa6]);
    expected.extend(b"EsFr\0\0\0\x07");
    expected.extend([0xca, 0x53, 0x84, 0x21]);
    expected.extend([META, 0, 0, 0, 0, 0, 0]);
    expected.extend(b"EsFr\0\0\0\x02");
    expected.extend([0x10, 0x3e, 0x8d, 0x15]);
    expected.extend([RECORDS, b'r']);
    expected.extend(b"EsFr\0\0\0\x11");
    expected.extend([0xe3, 0xbf, 0xba, 0x59]);
    expected.extend([END, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
    expected.extend(crc32c::crc32c(b"r").to_be_bytes());
    assert_eq!(found, expected, "{found:02x?}");
}

#[test]
fn a_cut_or_damaged_one_is_refused_at_any_byte() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap().write(&meta(5), chunks(&[b"one", b"two"])).unwrap();
    let path = dir.path().join(NAME);
    let whole = std::fs::read(&path).unwrap();
    let read = || open(dir.path()).and_then(|snapshots| content(&snapshots.current().unwrap()));
    let refused = |what: String| match read() {
        Err(error @ MetadataError::Damaged { .. }) => assert!(error.to_string().contains("Restore"), "{error}"),
        other => panic!("{what}: {other:?}"),
    };
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        refused(format!("cut to {cut}"));
    }
    for byte in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[byte] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        refused(format!("byte {byte}"));
    }
    let longer = [whole.as_slice(), b"x"].concat();
    std::fs::write(&path, &longer).unwrap();
    refused("a byte more".to_owned());
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(read().unwrap().len(), 2);
}

#[test]
fn one_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut newer = b"esker-ms\x01\x00".to_vec();
    newer.extend(crc32c::crc32c(&newer).to_be_bytes());
    std::fs::write(dir.path().join(NAME), newer).unwrap();
    let message = open(dir.path()).unwrap_err().to_string();
    assert!(message.contains("newer Esker") && message.contains("version 256"), "{message}");
}

#[test]
fn a_received_one_is_verified_and_then_installed() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sent = open(from.path()).unwrap().write(&meta(5), chunks(&[b"one", b"two"])).unwrap();
    let mut bytes = vec![0; usize::try_from(sent.size()).unwrap()];
    assert_eq!(sent.read_at(&mut bytes, 0).unwrap(), bytes.len());

    let snapshots = open(to.path()).unwrap();
    let receive = |bytes: &[u8]| {
        let mut receiver = snapshots.receive().unwrap();
        bytes.chunks(7).for_each(|piece| receiver.write(piece).unwrap());
        receiver.finish()
    };
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(receive(&damaged).is_err() && receive(&bytes[..bytes.len() - 1]).is_err());
    let received = receive(&bytes).unwrap();
    assert!(snapshots.current().is_none(), "it is not the current one before it is installed");
    snapshots.install(&received).unwrap();
    drop(received);
    assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 1);
    assert_eq!(std::fs::read(to.path().join(NAME)).unwrap(), bytes);
    assert_eq!(content(&open(to.path()).unwrap().current().unwrap()).unwrap(), [&b"one"[..], b"two"]);
}
