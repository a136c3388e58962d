use super::*;
use crate::{
    io::OsDisk,
    metalog::{
        encode::put_step,
        frames::FRAME_HEADER,
        types::{Vote, VoterId},
    },
};

fn vote(term: u64) -> Step {
    Step::Vote(Vote { term, candidate: VoterId::default(), committed: false })
}

fn encoded(steps: &[Step]) -> Vec<u8> {
    let mut out = Vec::new();
    steps.iter().for_each(|step| put_step(step, &mut out).unwrap());
    out
}

fn open(dir: &Path) -> Result<(StepFile, Vec<Step>), MetadataError> {
    let mut steps = Vec::new();
    StepFile::open(Arc::new(OsDisk), dir, |step| steps.push(step)).map(|file| (file, steps))
}

fn terms(dir: &Path) -> Result<Vec<u64>, MetadataError> {
    let (_, steps) = open(dir)?;
    Ok(steps.iter().map(|step| if let Step::Vote(vote) = step { vote.term } else { panic!("{step:?}") }).collect())
}

/// Frames of votes 1; 2 and 3; 4.
fn three_frames(dir: &Path) -> Vec<u8> {
    let (mut file, _) = open(dir).unwrap();
    file.append(&encoded(&[vote(1)])).unwrap();
    file.append(&encoded(&[vote(2), vote(3)])).unwrap();
    file.append(&encoded(&[vote(4)])).unwrap();
    std::fs::read(dir.join(NAME)).unwrap()
}

#[test]
fn the_file_has_exactly_these_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, _) = open(dir.path()).unwrap();
    file.append(&encoded(&[vote(1)])).unwrap();
    // The checksums were calculated elsewhere.
    let mut expected = b"esker-ml\x00\x01".to_vec();
    expected.extend([0xb3, 0xe1, 0x33, 0x80]);
    expected.extend(b"EsFr\0\0\0\x22");
    expected.extend([0xa4, 0xb1, 0x31, 0xfd]);
    expected.extend(encoded(&[vote(1)]));
    let found = std::fs::read(dir.path().join(NAME)).unwrap();
    assert_eq!(found, expected, "{found:02x?}");
}

#[test]
fn a_torn_end_is_cut_at_any_byte_and_damage_before_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let whole = three_frames(dir.path());
    let path = dir.path().join(NAME);
    assert_eq!(terms(dir.path()).unwrap(), [1, 2, 3, 4]);
    let last = FRAME_HEADER + encoded(&[vote(4)]).len();
    for cut in 1..=last {
        std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        assert_eq!(terms(dir.path()).unwrap(), [1, 2, 3], "without the last {cut} bytes");
        assert_eq!(std::fs::metadata(&path).unwrap().len() as usize, whole.len() - last);
    }
    for byte in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[byte] ^= 0x40;
        std::fs::write(&path, &damaged).unwrap();
        match terms(dir.path()) {
            Ok(terms) => assert!(byte >= whole.len() - last && terms == [1, 2, 3], "byte {byte}: {terms:?}"),
            Err(MetadataError::Damaged { .. }) => {
                assert!(byte < whole.len() - last, "byte {byte}");
                assert_eq!(std::fs::read(&path).unwrap(), damaged, "a refused file is left as it is");
            }
            Err(other) => panic!("byte {byte}: {other}"),
        }
    }
    let mut zeros = whole.clone();
    zeros.extend([0; 700]);
    std::fs::write(&path, &zeros).unwrap();
    assert_eq!(terms(dir.path()).unwrap(), [1, 2, 3, 4], "zeros behind the end are no frame");
}

#[test]
fn a_frame_counts_at_its_own_position_only() {
    let dir = tempfile::tempdir().unwrap();
    let whole = three_frames(dir.path());
    let path = dir.path().join(NAME);
    // The third frame once more behind itself: from an older file, or from within a payload.
    let last = FRAME_HEADER + encoded(&[vote(4)]).len();
    let stale = [whole.as_slice(), &whole[whole.len() - last..]].concat();
    std::fs::write(&path, &stale).unwrap();
    assert_eq!(terms(dir.path()).unwrap(), [1, 2, 3, 4]);
    assert_eq!(std::fs::read(&path).unwrap(), whole);
}

#[test]
fn a_rewritten_file_holds_nothing_else_and_is_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    three_frames(dir.path());
    let (mut file, _) = open(dir.path()).unwrap();
    file.rewrite(&encoded(&[vote(5)])).unwrap();
    assert_eq!(terms(dir.path()).unwrap(), [5]);
    file.append(&encoded(&[vote(6)])).unwrap();
    assert_eq!(terms(dir.path()).unwrap(), [5, 6]);
}

#[test]
fn files_of_other_versions_are_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(NAME);
    let refusal = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "a refused file is left as it is");
        error.to_string()
    };
    let mut newer = b"esker-ml\x00\x02".to_vec();
    newer.extend(crc32c::crc32c(&newer).to_be_bytes());
    newer.extend(b"whatever a later version writes");
    let message = refusal(&newer);
    assert!(message.contains("made by a newer Esker") && message.contains("version 2"), "{message}");

    let step = [0u8, 1, 2, 3];
    let mut older = 4u32.to_le_bytes().to_vec();
    older.extend(crc32c::crc32c(&step).to_le_bytes());
    older.extend(step);
    let message = refusal(&older);
    assert!(message.contains("earlier build") && message.contains("Move metadata.log"), "{message}");

    for damaged in [&b""[..], b"esker", b"esker-ml\x00\x01", b"something else entirely"] {
        let message = refusal(damaged);
        assert!(message.contains("is damaged"), "{message}");
    }

    let mut unknown = encoded(&[vote(1)]);
    unknown.extend([0, 0, 0, 2, 77, 0]);
    std::fs::remove_file(&path).unwrap();
    open(dir.path()).unwrap().0.append(&unknown).unwrap();
    let message = open(dir.path()).unwrap_err().to_string();
    assert!(message.contains("made by a newer Esker") && message.contains("kind 77"), "{message}");
}
