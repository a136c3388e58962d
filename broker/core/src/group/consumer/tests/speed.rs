//! Figures: run with `--ignored --nocapture`.

use std::time::Instant;

use esker_protocol::primitives::Str;

use super::world::{World, beat, limits};
use crate::coordinator::StateMachine as _;
use crate::group::GroupShard;
use crate::group::consumer::ConsumerLimits;

#[test]
#[ignore = "measures"]
fn how_long_it_takes() {
    let mut world = World::new();
    world.topic("t", 10_000);
    let image = world.image;
    let mut shard = GroupShard::new(limits());
    shard.see(&image, ConsumerLimits::default);
    let members: Vec<String> = (0..1000).map(|n| format!("member-{n}")).collect();
    let mut now = 1000;
    let send = |shard: &mut GroupShard, request: &_, now: i64| {
        let (effects, reply) = shard.consumer_heartbeat(request, now).unwrap();
        if !effects.records.is_empty() {
            shard.apply(&effects.records, None);
        }
        reply
    };
    let began = Instant::now();
    let mut epochs = Vec::new();
    for member in &members {
        let mut request = beat("g", member, 0);
        request.topics = Some(vec![Str::from("t")]);
        epochs.push(send(&mut shard, &request, now).epoch);
    }
    println!("1,000 joins within one assignment interval: {:?}", began.elapsed());
    now += 2000;
    let began = Instant::now();
    epochs[0] = send(&mut shard, &beat("g", &members[0], epochs[0]), now).epoch;
    println!("the heartbeat that makes the target for 1,000 members and 10,000 partitions: {:?}", began.elapsed());
    for round in 0..4 {
        let began = Instant::now();
        for (member, epoch) in members.iter().zip(&mut epochs) {
            let mut request = beat("g", member, *epoch);
            request.owned = Some(Default::default());
            if let Ok((effects, reply)) = shard.consumer_heartbeat(&request, now) {
                shard.apply(&effects.records, None);
                *epoch = reply.epoch;
            }
        }
        println!("round {round} of 1,000 heartbeats: {:?}", began.elapsed());
    }
    println!("{}", shard.describe_consumer("g").unwrap().state);
}
