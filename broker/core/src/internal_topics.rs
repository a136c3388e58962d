//! The topics in which coordinators keep their state. Clients may read them, and only the broker writes them.
//!
//! They get as many replicas as configured, or as there are brokers: unlike Kafka's, a cluster of one or two brokers coordinates groups. Brokers that
//! come later get replicas, too ([`crate::controller::grow_internal_topics`]); a cluster that is just forming, or a broker that restarts, is waited for, so
//! that this is not needed.

use crate::metadata::MetadataImage;

/// The topic that consumer groups live in.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The topic that transactions live in.
pub const TRANSACTION_TOPIC: &str = "__transaction_state";
/// The topic that share groups live in.
pub const SHARE_GROUP_TOPIC: &str = "__share_group_state";

/// All of them.
pub const INTERNAL_TOPICS: [&str; 3] = [OFFSETS_TOPIC, TRANSACTION_TOPIC, SHARE_GROUP_TOPIC];

/// Whether only the broker writes `topic`.
pub fn is_internal(topic: &str) -> bool {
    INTERNAL_TOPICS.contains(&topic)
}

/// How many replicas a coordinator's topic gets; `None` while brokers are expected that cannot get replicas yet. `usable` brokers can
/// ([`crate::controller::usable_brokers`]), `listed` is the number of nodes that this one was told to join; `waited`: nobody is waited for any more.
pub fn replicas_of_internal(
    image: &MetadataImage,
    usable: usize,
    configured: i16,
    listed: usize,
    waited: bool,
) -> Option<i16> {
    let configured = usize::try_from(configured).unwrap_or_default().max(1);
    let expected = image.brokers().count().max(image.reservations().count()).max(listed).min(configured);
    if usable < expected && !waited {
        return None;
    }
    i16::try_from(usable.clamp(1, configured)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::usable_brokers;
    use crate::metadata::{BrokerRecord, MetadataRecord, NodeReservationRecord};
    use esker_protocol::primitives::Uuid;

    #[test]
    fn a_coordinators_topic_waits_for_brokers_that_are_about_to_come() {
        let replicas = |image: &MetadataImage, configured, listed, waited| {
            replicas_of_internal(image, usable_brokers(image), configured, listed, waited)
        };
        let mut image = MetadataImage::default();
        let add = |image: &mut MetadataImage, node_id, in_controlled_shutdown| {
            let record =
                BrokerRecord { node_id, in_controlled_shutdown, fenced: node_id == 3, ..BrokerRecord::default() };
            image.apply(&MetadataRecord::Broker(record));
        };
        add(&mut image, 1, false);
        for (configured, listed, waited, expected) in [
            (3, 0, false, Some(1)),
            (3, 1, false, Some(1)),
            (3, 3, false, None),
            (3, 3, true, Some(1)),
            (1, 3, false, Some(1)),
            (0, 0, false, Some(1)),
        ] {
            assert_eq!(replicas(&image, configured, listed, waited), expected, "{configured} {listed}");
        }
        // Node 2 has an id, and is not registered yet.
        image.apply(&MetadataRecord::NodeReservation(NodeReservationRecord { node_id: 1, directory: Uuid([1; 16]) }));
        image.apply(&MetadataRecord::NodeReservation(NodeReservationRecord { node_id: 2, directory: Uuid([2; 16]) }));
        assert_eq!(replicas(&image, 3, 1, false), None);
        add(&mut image, 2, false);
        assert_eq!(replicas(&image, 3, 1, false), Some(2));
        // A broker that is fenced gets replicas, one that shuts down does not: it is back in a moment.
        add(&mut image, 3, false);
        assert_eq!(replicas(&image, 3, 1, false), Some(3));
        add(&mut image, 2, true);
        assert_eq!(replicas(&image, 3, 1, false), None);
        assert_eq!(replicas(&image, 3, 1, true), Some(2));
        assert_eq!(replicas(&image, 2, 1, false), Some(2));
    }

    #[test]
    fn the_names_are_exact() {
        for topic in INTERNAL_TOPICS {
            assert!(is_internal(topic));
            assert!(!is_internal(&topic[1..]) && !is_internal(&topic.to_uppercase()));
        }
    }
}
