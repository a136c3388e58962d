//! A thousand members and ten thousand partitions: the group becomes stable, and each partition has an owner. Prints the time that each
//! step takes (`--nocapture`).

use std::collections::BTreeMap;
use std::time::Instant;

use esker_protocol::primitives::Str;

use super::world::{World, beat, limits};
use crate::coordinator::{Applied, StateMachine as _};
use crate::group::GroupShard;
use crate::group::consumer::ConsumerLimits;

#[test]
fn a_thousand_members_become_stable_with_everything_shared_out() {
    let mut world = World::new();
    world.topic("t", 10_000);
    let image = world.image;
    let mut shard = GroupShard::new(limits());
    shard.update_image(&image, ConsumerLimits::default);
    let members: Vec<String> = (0..1000).map(|n| format!("member-{n}")).collect();
    let mut now = 1000;
    let send = |shard: &mut GroupShard, request: &_, now: i64| {
        let (mut effects, reply) = shard.consumer_heartbeat(request, now).unwrap();
        shard.apply(Applied::all(&mut effects));
        reply
    };
    let began = Instant::now();
    let (mut epochs, mut given) = (Vec::new(), Vec::new());
    for member in &members {
        let mut request = beat("g", member, 0);
        request.topics = Some(vec![Str::from("t")]);
        let reply = send(&mut shard, &request, now);
        epochs.push(reply.epoch);
        given.push(reply.assignment.unwrap_or_default());
    }
    println!("1,000 joins within one assignment interval: {:?}", began.elapsed());
    now += 2000;
    let began = Instant::now();
    let reply = send(&mut shard, &beat("g", &members[0], epochs[0]), now);
    epochs[0] = reply.epoch;
    given[0] = reply.assignment.unwrap_or_else(|| given[0].clone());
    println!("the heartbeat that makes the target for 1,000 members and 10,000 partitions: {:?}", began.elapsed());
    for round in 0..4 {
        let began = Instant::now();
        for ((member, epoch), given) in members.iter().zip(&mut epochs).zip(&mut given) {
            let mut request = beat("g", member, *epoch);
            request.owned = Some(BTreeMap::clone(given));
            let reply = send(&mut shard, &request, now);
            *epoch = reply.epoch;
            if let Some(assignment) = reply.assignment {
                *given = assignment;
            }
        }
        println!("round {round} of 1,000 heartbeats: {:?}", began.elapsed());
    }
    assert_eq!(shard.describe_consumer("g").unwrap().state.to_string(), "Stable");
    let mut all: Vec<i32> = given.iter().flat_map(BTreeMap::values).flatten().copied().collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..10_000), "each partition is one member's");
    assert!(given.iter().all(|given| given.values().map(Vec::len).sum::<usize>() == 10), "and all have as many");
}
