//! Groups with thousands of topics: served whole, in records that a log takes, and without harm to others.

use esker_protocol::primitives::Str;

use super::world::{World, beat};
use crate::group::consumer::Partitions;

const TOPICS: usize = 3000;
/// `max.message.bytes` as it is by default.
const MOST_BYTES: usize = 1_048_588;

fn count(partitions: &Partitions) -> usize {
    partitions.values().map(Vec::len).sum()
}

#[test]
fn thousands_of_topics_are_shared_out_and_others_do_not_notice() {
    let mut world = World::new();
    let names: Vec<String> = (0..TOPICS).map(|n| format!("topic-with-a-name-of-usual-length-{n:05}")).collect();
    names.iter().for_each(|name| world.topic(name, 1));
    let mut small = beat("small", "s", 0);
    small.topics = Some(vec![Str::copy(&names[0])]);
    let before = world.heartbeat(&small).unwrap();

    let mut request = beat("large", "m1", 0);
    request.topics = Some(names.iter().map(|name| Str::copy(name)).collect());
    let first = world.heartbeat(&request).unwrap();
    assert_eq!(first.assignment.as_ref().map(count), Some(TOPICS), "one member has all");
    // By a regular expression, in a group of its own.
    let mut by_regex = beat("matching", "r1", 0);
    by_regex.regex = Some("topic-.*".into());
    let joined = world.heartbeat(&by_regex).unwrap();
    world.look_up();
    world.pass(2000);
    let mut told = world.heartbeat(&beat("matching", "r1", joined.epoch)).unwrap();
    if told.assignment.is_none() {
        told = world.heartbeat(&beat("matching", "r1", told.epoch)).unwrap();
    }
    assert_eq!(told.assignment.as_ref().map(count), Some(TOPICS), "the expression matches all");

    request.member_id = "m2".into();
    let second = world.heartbeat(&request).unwrap();
    world.pass(2000);
    let mut give = beat("large", "m1", first.epoch);
    let kept = world.heartbeat(&give).unwrap().assignment.unwrap();
    assert_eq!(count(&kept), TOPICS / 2, "and gives half back");
    give.owned = Some(kept);
    world.heartbeat(&give).unwrap();
    let half = world.heartbeat(&beat("large", "m2", second.epoch)).unwrap();
    assert_eq!(half.assignment.as_ref().map(count), Some(TOPICS / 2), "which the other one gets");

    let after = world.heartbeat(&beat("small", "s", before.epoch)).unwrap();
    assert_eq!((after.epoch, after.assignment), (before.epoch, None), "nothing happened to the small one");
    assert!(world.largest_record() < MOST_BYTES, "{} bytes in one record", world.largest_record());
}
