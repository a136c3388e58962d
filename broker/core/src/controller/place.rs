//! Where replicas go: round robin over the live brokers, over racks first when all brokers have one. A fenced broker gets replicas where
//! there are too few others, as in Kafka: a topic can be created while a broker is down, and is whole when it is back.

use esker_protocol::error::ErrorCode;

use super::decision::Refusal;
use crate::config::list_items;
use crate::metadata::{BrokerImage, ConfigResource, MetadataImage};

/// Replica lists for `partitions` partitions with `factor` replicas each. `seed` picks where the round begins, so that
/// topics do not all begin on the same broker.
pub fn place(image: &MetadataImage, partitions: usize, factor: usize, seed: u64) -> Result<Vec<Vec<i32>>, Refusal> {
    let refused = |message: String| Err(Refusal::new(ErrorCode::INVALID_REPLICATION_FACTOR, message));
    let order = broker_order(image, BrokerImage::is_active);
    let fenced = broker_order(image, |broker| broker.fenced && !broker.in_controlled_shutdown);
    let usable = order.len() + fenced.len();
    if factor == 0 || factor > usable {
        return refused(format!(
            "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be reached because only {usable} broker(s) are registered."
        ));
    }
    if order.is_empty() {
        return refused(format!(
            "Unable to replicate the partition {factor} time(s): All brokers are currently fenced."
        ));
    }
    let begin = usize::try_from(seed % (order.len() as u64)).unwrap_or(0);
    let lists = (0..partitions).map(|partition| replicas(&order, &fenced, begin + partition, factor));
    Ok(lists.collect())
}

/// How many brokers can get replicas, as [`place`] counts them.
pub fn usable_brokers(image: &MetadataImage) -> usize {
    image.brokers().filter(|broker| !broker.in_controlled_shutdown && takes_replicas(image, broker)).count()
}

/// The leader at `at`, then followers from racks that are not in the list yet as long as there are any. With every full round the
/// followers move on, so that a broker's partitions do not all share one follower.
fn replicas(order: &[(i32, &str)], fenced: &[(i32, &str)], at: usize, factor: usize) -> Vec<i32> {
    let shift = at / order.len();
    let around = |from: usize| order.iter().cycle().skip(from % order.len()).take(order.len());
    let fenced = || fenced.iter().cycle().skip(at % fenced.len().max(1)).take(fenced.len());
    let mut chosen: Vec<(i32, &str)> = around(at).take(1).copied().collect();
    add_replicas(&mut chosen, factor, || around(at + 1 + shift).chain(fenced()).copied());
    chosen.into_iter().map(|(id, _)| id).collect()
}

/// Candidates from racks that are not in the list yet, then others, until it has `factor`.
fn add_replicas<'a, I: Iterator<Item = (i32, &'a str)>>(
    chosen: &mut Vec<(i32, &'a str)>,
    factor: usize,
    candidates: impl Fn() -> I,
) {
    for fresh_racks in [true, false] {
        for candidate in candidates() {
            let known = chosen.iter().any(|(id, rack)| *id == candidate.0 || fresh_racks && *rack == candidate.1);
            if chosen.len() < factor && !known {
                chosen.push(candidate);
            }
        }
    }
}

/// What `held` lacks to have `factor` replicas, from `order`, where the choice begins at `at`.
pub(super) fn fresh_replicas<'a>(
    order: &[(i32, &'a str)],
    held: Vec<(i32, &'a str)>,
    at: usize,
    factor: usize,
) -> Vec<i32> {
    let (before, mut chosen) = (held.len(), held);
    let around = || order.iter().cycle().skip(at % order.len().max(1)).take(order.len()).copied();
    add_replicas(&mut chosen, factor, around);
    chosen.into_iter().skip(before).map(|(id, _)| id).collect()
}

/// Brokers of a kind, neighbours in different racks as far as that goes.
pub(super) fn broker_order(image: &MetadataImage, is_of_kind: impl Fn(&BrokerImage) -> bool) -> Vec<(i32, &str)> {
    let mut racks: Vec<(&str, Vec<i32>)> = Vec::new();
    for broker in image.brokers().filter(|broker| is_of_kind(broker) && takes_replicas(image, broker)) {
        let rack = broker.rack.as_deref().unwrap_or_default();
        match racks.iter_mut().find(|(name, _)| *name == rack) {
            Some((_, ids)) => ids.push(broker.node_id),
            None => racks.push((rack, vec![broker.node_id])),
        }
    }
    let longest = racks.iter().map(|(_, ids)| ids.len()).max().unwrap_or_default();
    let at = |place: usize| racks.iter().filter_map(move |(rack, ids)| Some((*ids.get(place)?, *rack)));
    (0..longest).flat_map(at).collect()
}

/// Whether `cordoned.log.dirs` leaves a log dir of the broker to place new replicas in. A dynamic config counts instead of what the broker
/// has registered of its own configuration.
pub fn takes_replicas(image: &MetadataImage, broker: &BrokerImage) -> bool {
    let Some(cordoned) = image.config(&ConfigResource::broker(broker.node_id), "cordoned.log.dirs") else {
        let dirs = &broker.log_dirs;
        return dirs.is_empty() || dirs.iter().any(|dir| !broker.cordoned_log_dirs.contains(dir));
    };
    let mut cordoned = list_items(cordoned);
    let all = |name: &str| name == "*";
    // Each name means one dir: that was checked when the names were set.
    let named = cordoned.try_fold(0, |count, name| if all(name) { None } else { Some(count + 1) });
    named.is_some_and(|named| named == 0 || named < broker.log_dirs.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use esker_protocol::primitives::Uuid;
    use proptest::prelude::*;

    use crate::metadata::{BrokerRecord, ConfigRecord, MetadataRecord};

    #[test]
    fn a_broker_whose_dirs_are_all_cordoned_gets_nothing_new() {
        for (cordoned, takes) in [("", true), ("/a", true), ("/a,/b", false), ("*", false)] {
            let mut image = MetadataImage::default();
            let log_dirs = vec![Default::default(); 2];
            image.apply(&MetadataRecord::Broker(BrokerRecord { node_id: 1, log_dirs, ..BrokerRecord::default() }));
            image.apply(&MetadataRecord::Config(ConfigRecord {
                resource_type: ConfigResource::broker(1).kind.id(),
                resource_name: "1".into(),
                name: "cordoned.log.dirs".into(),
                value: Some(cordoned.into()),
            }));
            assert_eq!(place(&image, 1, 1, 0).is_ok(), takes, "{cordoned:?}");
        }
    }

    /// Two log dirs, in the broker's own configuration and in a dynamic config.
    #[test]
    fn a_broker_whose_own_configuration_cordons_its_dirs_gets_nothing_new() {
        let [a, b, failed] = [1, 2, 3].map(|byte| Uuid([byte; 16]));
        for (registered, online, dynamic, takes) in [
            (vec![], vec![a, b], None, true),
            (vec![a], vec![a, b], None, true),
            (vec![a, b], vec![a, b], None, false),
            // The one that is not cordoned has failed.
            (vec![a], vec![a], None, false),
            (vec![a, failed], vec![a, b], None, true),
            (vec![a, b], vec![], None, true),
            (vec![a, b], vec![a, b], Some(""), true),
            (vec![a, b], vec![a, b], Some("/a"), true),
            (vec![], vec![a, b], Some("*"), false),
            (vec![a], vec![a, b], Some("/a,/b"), false),
        ] {
            let mut image = MetadataImage::default();
            let record = BrokerRecord {
                node_id: 1,
                log_dirs: online.clone(),
                cordoned_log_dirs: registered.clone(),
                ..BrokerRecord::default()
            };
            image.apply(&MetadataRecord::Broker(record));
            if let Some(value) = dynamic {
                image.apply(&MetadataRecord::Config(ConfigRecord {
                    resource_type: ConfigResource::broker(1).kind.id(),
                    resource_name: "1".into(),
                    name: "cordoned.log.dirs".into(),
                    value: Some(value.into()),
                }));
            }
            assert_eq!(place(&image, 1, 1, 0).is_ok(), takes, "{registered:?} {online:?} {dynamic:?}");
        }
    }

    fn cluster(racks: &[Option<&'static str>]) -> MetadataImage {
        let mut image = MetadataImage::default();
        for (id, rack) in racks.iter().enumerate() {
            image.apply(&MetadataRecord::Broker(BrokerRecord {
                node_id: id as i32,
                rack: rack.map(Into::into),
                ..BrokerRecord::default()
            }));
        }
        image
    }

    #[test]
    fn neighbours_sit_in_different_racks() {
        let image = cluster(&[Some("a"), Some("a"), Some("b"), Some("b")]);
        for replicas in place(&image, 8, 2, 3).unwrap() {
            let rack = |id: i32| image.broker(id).unwrap().rack.clone();
            assert_ne!(rack(replicas[0]), rack(replicas[1]), "{replicas:?}");
        }
    }

    #[test]
    fn a_fenced_broker_gets_replicas_only_where_there_are_too_few_others() {
        let mut image = cluster(&[None; 4]);
        for (node_id, in_controlled_shutdown) in [(1, false), (3, true)] {
            let broker = BrokerRecord { node_id, fenced: true, in_controlled_shutdown, ..BrokerRecord::default() };
            image.apply(&MetadataRecord::Broker(broker));
        }
        for (factor, fenced) in [(1, false), (2, false), (3, true)] {
            for replicas in place(&image, 8, factor, 5).unwrap() {
                assert_eq!(replicas.contains(&1), fenced, "{replicas:?}");
                assert!(replicas[0] != 1 && !replicas.contains(&3), "{replicas:?}");
            }
        }
        let refused = place(&image, 1, 4, 0).unwrap_err();
        assert_eq!(refused.code, ErrorCode::INVALID_REPLICATION_FACTOR);
        assert!(refused.message.contains("only 3 broker(s)"), "{refused:?}");
    }

    #[test]
    fn a_rack_of_its_own_outweighs_a_fence() {
        let mut image = cluster(&[Some("a"), Some("a")]);
        image.apply(&MetadataRecord::Broker(BrokerRecord {
            node_id: 2,
            rack: Some("b".into()),
            fenced: true,
            ..BrokerRecord::default()
        }));
        assert!(place(&image, 4, 2, 0).unwrap().iter().all(|replicas| replicas[1] == 2));
    }

    proptest! {
        #[test]
        fn replicas_are_distinct_and_leaders_even(brokers in 1usize..8, partitions in 1usize..40, seed: u64) {
            let image = cluster(&vec![None; brokers]);
            for factor in 1..=brokers {
                let lists = place(&image, partitions, factor, seed).unwrap();
                let mut led = vec![0usize; brokers];
                for replicas in &lists {
                    let mut unique = replicas.clone();
                    unique.sort_unstable();
                    unique.dedup();
                    prop_assert_eq!(unique.len(), factor);
                    led[replicas[0] as usize] += 1;
                }
                prop_assert!(led.iter().max().unwrap() - led.iter().min().unwrap() <= 1);
            }
            prop_assert!(place(&image, partitions, brokers + 1, seed).is_err());
        }
    }
}
