//! Every byte of a file that real rounds wrote.

use super::*;

#[test]
fn a_file_has_the_bytes_of_the_format() {
    let world = World::new(1 << 20);
    let manager = world.open();
    let (a, b) = (create(&manager, "a"), create(&manager, "b"));
    keep_up(&manager);
    let before = (world.size("a"), world.size("b"));
    append(&a, b"one");
    append(&a, b"two");
    append(&b, b"three");
    assert!(round(&[Arc::clone(&a), Arc::clone(&b)]).is_empty());
    a.truncate_to(2).unwrap();
    b.flush_closed_for_good().unwrap();

    let id = manager.dirs()[0].directory_id;
    let batches =
        |topic: &str, from: u64, to: usize| fs::read(world.segment(topic)).unwrap()[from as usize..to].to_vec();
    // Of a truncated segment the file is cut later, or anew: the bytes are known from another log.
    let of_b = batches("b", before.1, world.size("b") as usize);
    let entry = |topic: &str, position: u64, offsets, bytes: Vec<u8>| Spec {
        id: id_of(topic),
        position,
        offsets,
        ..Spec::data(0, 0, &bytes)
    };
    let file = fs::read(world.file(0)).unwrap();
    assert_eq!(file[..PAGE as usize], header_page(1, id, 1, 1, 0));
    let length_a = u32::from_be_bytes(file[PAGE as usize + 44 + 78..][..4].try_into().unwrap()) as usize;
    let of_a = file[PAGE as usize + 44 + 90..][..length_a].to_vec();
    assert!(of_a.windows(3).any(|window| window == b"one") && of_a.windows(3).any(|window| window == b"two"));
    let first = [entry("a", before.0, (1, 3), of_a), entry("b", before.1, (1, 2), of_b)];
    let (bytes, _) = round_bytes(1, 0, PAGE, &first);
    assert_eq!(file[PAGE as usize..][..bytes.len()], bytes);

    let note = |kind, topic: &str, offset| Spec {
        kind,
        id: id_of(topic),
        epoch: -1,
        offsets: (offset, offset),
        ..Spec::data(0, 0, b"")
    };
    let at = PAGE + bytes.len() as u64;
    let (void, _) = round_bytes(1, 2, at, &[note(2, "a", 2)]);
    assert_eq!(file[at as usize..][..void.len()], void);
    let at = at + void.len() as u64;
    let (synced, _) = round_bytes(1, 3, at, &[note(3, "b", 1)]);
    assert_eq!(file[at as usize..][..synced.len()], synced);
    assert!(file[at as usize + synced.len()..].iter().all(|byte| *byte == 0));
    assert_eq!(stats(&manager).rounds, 3);
}
