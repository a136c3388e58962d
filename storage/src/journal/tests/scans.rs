//! What of a file counts.

use super::super::{
    format::{FileHeader, Kind},
    scan::{Entry, Scan, live, newest_generation, scan},
};
use super::*;

const HEADER: FileHeader = FileHeader { directory_id: Uuid([3; 16]), generation: 5, floor: 5, sequence: 10 };

/// A file of three rounds, of two entries each, over `under`; where they begin, and the last one's length.
fn three_rounds(under: u64) -> (Vec<u8>, Vec<usize>, usize) {
    let mut file = header_page(1, HEADER.directory_id, 5, 5, 10);
    let (mut starts, mut last) = (Vec::new(), 0);
    for number in 0..3u64 {
        starts.push(file.len());
        let (bytes, length) = round_bytes(5, 10 + 2 * number, file.len() as u64, &entries(number as i64));
        file.extend(bytes);
        last = length;
    }
    // What a former use of the file left behind them, and would have in their place.
    for number in 3..6u64 {
        let (bytes, _) = round_bytes(under, 10 + 2 * number, file.len() as u64, &entries(number as i64));
        file.extend(bytes);
    }
    (file, starts, last)
}

fn entries(number: i64) -> [Spec; 2] {
    let bytes = vec![b'a' + number as u8; 700];
    [Spec::data(number * 10, number * 10 + 5, &bytes), Spec::data(number * 10 + 5, number * 10 + 10, &bytes[..300])]
}

fn firsts(scan: &Scan) -> Vec<i64> {
    scan.entries.iter().map(|entry| entry.header.first_offset).collect()
}

fn scanned(file: &[u8], follows: Option<u64>) -> Scan {
    let scan = scan(&Bytes::copy_from_slice(file), &HEADER, follows);
    for Entry { header, bytes } in &scan.entries {
        let letter = b'a' + (header.first_offset / 10) as u8;
        assert!(bytes.iter().all(|byte| *byte == letter), "other bytes than were written");
    }
    scan
}

#[test]
fn all_rounds_count_and_nothing_of_a_former_use() {
    let (file, ..) = three_rounds(4);
    let scan = scanned(&file, None);
    assert_eq!(firsts(&scan), [0, 5, 10, 15, 20, 25]);
    assert_eq!((scan.next_sequence, scan.damage.len()), (16, 0));
    assert_eq!(newest_generation(&Bytes::from(file)), 5);
}

#[test]
fn a_torn_end_is_the_end_and_no_damage() {
    let (whole, starts, last) = three_rounds(4);
    let old = old_rounds();
    for cut in 0..last {
        let mut file = whole.clone();
        // Behind the cut lies what was there before: zeros, or an older round.
        for under in [&vec![0; whole.len()], &old] {
            file[starts[2] + cut..starts[2] + PAGE as usize]
                .copy_from_slice(&under[starts[2] + cut..][..PAGE as usize - cut]);
            let scan = scanned(&file, None);
            if file[starts[2]..starts[2] + last] == whole[starts[2]..starts[2] + last] {
                continue;
            }
            assert_eq!(firsts(&scan), [0, 5, 10, 15], "cut at {cut}");
            assert_eq!((scan.next_sequence, scan.damage.len()), (14, 0), "cut at {cut}");
            // The next file goes on with those sequence numbers: that is no damage either.
            assert_eq!(scanned(&file, Some(14)).damage.len(), 0, "cut at {cut}");
        }
    }
    for sector in 0..last.div_ceil(512) {
        let mut file = whole.clone();
        file[starts[2] + sector * 512..][..512].fill(0);
        let scan = scanned(&file, None);
        assert_eq!((firsts(&scan).len(), scan.damage.len()), (4, 0), "sector {sector} is lost");
    }
}

/// The file as its former use left it.
fn old_rounds() -> Vec<u8> {
    let mut file = header_page(1, HEADER.directory_id, 1, 1, 10);
    for number in 0..6u64 {
        let (bytes, _) = round_bytes(1, 10 + 2 * number, file.len() as u64, &entries(number as i64));
        file.extend(bytes);
    }
    file
}

#[test]
fn a_flipped_byte_before_other_rounds_is_damage_and_the_rest_counts() {
    let (whole, starts, last) = three_rounds(4);
    for at in 0..last {
        let mut file = whole.clone();
        file[starts[1] + at] ^= 0x40;
        let scan = scanned(&file, None);
        let firsts = firsts(&scan);
        assert!(!scan.damage.is_empty(), "byte {at}");
        assert!([0, 5, 20, 25].iter().all(|first| firsts.contains(first)), "byte {at}: {firsts:?}");
        assert_eq!(scan.next_sequence, 16);
        // In the last round it is damage if a later file goes on behind it.
        let mut file = whole.clone();
        file[starts[2] + at] ^= 0x40;
        assert!(!scanned(&file, Some(16)).damage.is_empty(), "byte {at} of the last round");
    }
}

#[test]
fn rounds_of_an_older_generation_are_never_believed() {
    // Each round valid by itself, with the very sequence numbers and places where the new generation goes on.
    let mut file = old_rounds();
    file[..PAGE as usize].copy_from_slice(&header_page(1, HEADER.directory_id, 5, 5, 10));
    for number in 0..6u64 {
        let scan = scanned(&file, None);
        assert_eq!((firsts(&scan).len(), scan.damage.len()), (2 * number as usize, 0));
        assert_eq!(scan.next_sequence, 10 + 2 * number);
        let at = PAGE as usize * (1 + number as usize);
        let (bytes, _) = round_bytes(5, 10 + 2 * number, at as u64, &entries(number as i64));
        file[at..at + bytes.len()].copy_from_slice(&bytes);
    }
}

#[test]
fn an_entry_counts_only_in_its_generation_and_its_place() {
    let (whole, starts, _) = three_rounds(4);
    // An entry of an older generation inside of a new round: the sector with the round's header was written, the next one not.
    let mut file = whole.clone();
    let old = old_rounds();
    file[starts[2] + 512..starts[2] + PAGE as usize].copy_from_slice(&old[starts[2] + 512..starts[2] + PAGE as usize]);
    file[starts[2] + 44..starts[2] + 44 + 90].copy_from_slice(&old[starts[2] + 44..starts[2] + 44 + 90]);
    assert_eq!(firsts(&scanned(&file, None)), [0, 5, 10, 15]);
    // A round of this generation in another round's place.
    let mut file = whole.clone();
    let second = whole[starts[1]..starts[2]].to_vec();
    file[starts[2]..starts[2] + second.len()].copy_from_slice(&second);
    assert_eq!(firsts(&scanned(&file, None)), [0, 5, 10, 15]);
}

fn batch_at(offset: i64, value: &[u8]) -> Vec<u8> {
    let mut bytes = batch(Compression::None, &[(NOW, value)]).to_vec();
    bytes[..8].copy_from_slice(&offset.to_be_bytes());
    bytes
}

fn lives(specs: &[Spec]) -> Vec<(i64, i64, usize)> {
    let mut file = header_page(1, HEADER.directory_id, 5, 5, 10);
    for (spec, sequence) in specs.iter().zip(10..) {
        let (bytes, _) = round_bytes(5, sequence, file.len() as u64, std::slice::from_ref(spec));
        file.extend(bytes);
    }
    let scan = scan(&Bytes::from(file), &HEADER, None);
    assert_eq!(scan.entries.len(), specs.len());
    let logs = live(scan.entries);
    assert!(logs.values().flatten().all(|entry| entry.header.kind == Kind::Data));
    let of_t = logs.get(&key_of("t")).into_iter().flatten();
    of_t.map(|entry| (entry.header.first_offset, entry.header.next_offset, entry.bytes.len())).collect()
}

fn note(kind: u8, offset: i64) -> Spec {
    Spec { kind, offsets: (offset, offset), ..Spec::data(0, 0, b"") }
}

#[test]
fn void_cuts_what_came_before_it_also_inside_of_an_entry() {
    let batches: Vec<Vec<u8>> = (0..4).map(|offset| batch_at(offset, b"value")).collect();
    let size = batches[0].len();
    let all = Spec::data(0, 4, &batches.concat());
    let later = Spec::data(4, 5, &batch_at(4, b"value"));
    assert_eq!(lives(&[all.clone(), later.clone()]), [(0, 4, 4 * size), (4, 5, size)]);
    assert_eq!(lives(&[all.clone(), later.clone(), note(2, 2)]), [(0, 2, 2 * size)]);
    assert_eq!(lives(&[all.clone(), later.clone(), note(2, 4)]), [(0, 4, 4 * size)]);
    assert_eq!(lives(&[all.clone(), later.clone(), note(2, 0)]), []);
    assert_eq!(lives(&[all.clone(), later.clone(), note(2, i64::MIN)]), []);
    // What comes after it counts.
    let other = Spec::data(2, 3, &batch_at(2, b"other value"));
    assert_eq!(lives(&[all.clone(), later.clone(), note(2, 2), other.clone()])[1].0, 2);
    // A batch of several records is not cut in its middle: it goes.
    let mut wide = batch(Compression::None, &[(NOW, b"a"), (NOW, b"b"), (NOW, b"c")]).to_vec();
    wide[..8].copy_from_slice(&1i64.to_be_bytes());
    let entry = Spec::data(0, 4, &[batches[0].clone(), wide].concat());
    assert_eq!(lives(&[entry, note(2, 2)]), [(0, 1, size)]);
    // Another log's entries stay.
    let strange = Spec { id: id_of("other"), ..note(2, 0) };
    assert_eq!(lives(&[all, strange]), [(0, 4, 4 * size)]);
}

#[test]
fn synced_drops_what_lies_below_and_keeps_what_reaches_above() {
    let data = |first, next| Spec::data(first, next, &batch_at(first, b"value"));
    let lived =
        |offset| lives(&[data(0, 2), data(2, 4), data(4, 6), note(3, offset)]).iter().map(|l| l.0).collect::<Vec<_>>();
    assert_eq!(lived(0), [0, 2, 4]);
    assert_eq!(lived(2), [2, 4]);
    assert_eq!(lived(3), [2, 4]);
    assert_eq!(lived(6), [0; 0]);
}
