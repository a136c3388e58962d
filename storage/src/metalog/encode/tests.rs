use super::*;

fn voter(node_id: i32) -> VoterId {
    VoterId { node_id, directory: [0xd0; 16] }
}

fn id(index: u64) -> LogId {
    LogId { term: 3, leader: voter(1), index }
}

fn members() -> Members {
    Members {
        voters: vec![BTreeSet::from([voter(1)]), BTreeSet::from([voter(1), voter(2)])],
        addresses: BTreeMap::from([(voter(1), "a:1".to_owned()), (voter(2), String::new())]),
    }
}

fn entry(index: u64, payload: Payload) -> Step {
    Step::Entry(Entry { id: id(index), payload })
}

const D: &str = "d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0";

/// Every kind of step, and its bytes: length, kind, content.
fn golden() -> Vec<(Step, String)> {
    let id_hex = |index: u64| format!("0000000000000003 00000001 {D} {index:016x}");
    let members_hex = format!(
        "0002 0001 00000001 {D} 0002 00000001 {D} 00000002 {D} 0002 00000001 {D} 0003 613a31 00000002 {D} 0000"
    );
    let vote = Vote { term: 7, candidate: voter(-2), committed: true };
    vec![
        (Step::Vote(vote), format!("0000001e 01 0000000000000007 fffffffe {D} 01")),
        (entry(9, Payload::Blank), format!("00000026 02 {} 00", id_hex(9))),
        (entry(10, Payload::Records(Bytes::from_static(b"xyz"))), format!("00000029 02 {} 01 78797a", id_hex(10))),
        (entry(11, Payload::Members(members())), format!("00000099 02 {} 02 {members_hex}", id_hex(11))),
        (Step::Committed(None), "00000002 03 00".to_owned()),
        (Step::Committed(Some(id(8))), format!("00000026 03 01 {}", id_hex(8))),
        (Step::TruncateAfter(None), "00000002 04 00".to_owned()),
        (Step::TruncateAfter(Some(id(5))), format!("00000026 04 01 {}", id_hex(5))),
        (Step::Purge(id(4)), format!("00000025 05 {}", id_hex(4))),
    ]
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn read(bytes: &[u8]) -> Result<Vec<Step>, Fault> {
    let mut steps = Vec::new();
    read_steps(bytes, |step| steps.push(step)).map(|()| steps)
}

#[test]
fn every_step_has_exactly_these_bytes() {
    let mut all = Vec::new();
    for (step, hex) in golden() {
        let mut out = Vec::new();
        put_step(&step, &mut out).unwrap();
        assert_eq!(out, bytes(&hex), "{step:?}");
        assert_eq!(read(&out).unwrap(), [step]);
        all.extend(out);
    }
    let steps: Vec<Step> = golden().into_iter().map(|(step, _)| step).collect();
    assert_eq!(read(&all).unwrap(), steps);
}

#[test]
fn a_snapshots_position_has_exactly_these_bytes() {
    let meta = SnapshotMeta { last: Some(id(6)), members_at: None, members: members() };
    let mut out = Vec::new();
    put_meta(&meta, &mut out).unwrap();
    let expected = format!(
        "01 0000000000000003 00000001 {D} 0000000000000006 00 0002 0001 00000001 {D} 0002 00000001 {D} 00000002 {D} 0002 00000001 {D} 0003 613a31 00000002 {D} 0000"
    );
    assert_eq!(out, bytes(&expected));
    assert_eq!(read_meta(&out).unwrap(), meta);
    for cut in 0..out.len() {
        assert!(read_meta(&out[..cut]).is_err(), "without the last {} bytes", out.len() - cut);
    }
}

#[test]
fn unknown_kinds_are_a_newer_versions_and_cut_or_long_steps_are_damage() {
    let blank = golden()[1].1.clone();
    let unknown_entry = format!("{} 07", blank.strip_suffix(" 00").unwrap());
    for unknown in ["00000002 06 00", &unknown_entry] {
        assert!(matches!(read(&bytes(unknown)), Err(Fault::Unknown(_))), "{unknown}");
    }
    for (step, hex) in golden() {
        let whole = bytes(&hex);
        for cut in 1..whole.len() {
            assert!(matches!(read(&whole[..cut]), Err(Fault::Malformed(_))), "{step:?} cut to {cut}");
        }
        let is_records = matches!(&step, Step::Entry(Entry { payload: Payload::Records(_), .. }));
        let mut long = whole.clone();
        long.push(0);
        let length = u32::try_from(long.len() - 4).unwrap();
        long[..4].copy_from_slice(&length.to_be_bytes());
        assert_eq!(read(&long).is_ok(), is_records, "{step:?} with a byte more");
    }
}

#[test]
fn no_count_is_trusted_further_than_the_bytes_that_are_left() {
    let mut content = bytes(&format!("02 0000000000000003 00000001 {D} 0000000000000001 02 ffff ffff"));
    let mut step = u32::try_from(content.len()).unwrap().to_be_bytes().to_vec();
    step.append(&mut content);
    assert!(matches!(read(&step), Err(Fault::Malformed(_))));
}
