//! One `min.insync.replicas` for the whole cluster.
//!
//! A leader commits with as many in-sync replicas as its minimum says, and the controller keeps replicas eligible for leadership while fewer
//! are in sync (KIP-966). If the two took different minima, a replica could be eligible that lacks committed records. So a topic without a
//! minimum of its own has the cluster's, which is in the metadata log from the first start on, and no broker has one of its own: as Kafka's
//! `ConfigurationControlManager`, which refuses what this module refuses. Must never: leave a minimum to what one node was started with.

use std::collections::BTreeMap;

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Str;

use super::decision::Refusal;
use super::elections::ElectionRules;
use crate::config::{Scope, Statics, lookup, resolve_broker};
use crate::metadata::{ConfigRecord, ConfigResource, MetadataImage, MetadataRecord, ResourceKind};

const MIN_ISR: &str = "min.insync.replicas";

/// The records that give the cluster its minimum, where it has none: the one that the active controller was started with. Those of single
/// brokers, from before this rule, go. To be decided whenever a controller begins to lead.
pub(super) fn settle_min_isr(image: &MetadataImage, rules: ElectionRules<'_>) -> Vec<MetadataRecord> {
    let record = |name: &Str, value: Option<Str>| {
        MetadataRecord::Config(ConfigRecord {
            resource_type: ResourceKind::Broker.id(),
            resource_name: name.clone(),
            name: MIN_ISR.into(),
            value,
        })
    };
    let all = ConfigResource { kind: ResourceKind::Broker, name: Str::default() };
    let cluster = image.config(&all, MIN_ISR).is_none().then(|| {
        let key = lookup(Scope::Broker, MIN_ISR);
        let given = key.map(|key| resolve_broker(&MetadataImage::default(), rules.node_id, rules.statics, key));
        let value = given.as_ref().and_then(|given| given.value()).unwrap_or("1");
        record(&all.name, Some(Str::copy(value)))
    });
    let of_brokers = image.configured(ResourceKind::Broker).filter(|name| !name.is_empty()).filter(|name| {
        let resource = ConfigResource { kind: ResourceKind::Broker, name: (*name).clone() };
        image.config(&resource, MIN_ISR).is_some()
    });
    cluster.into_iter().chain(of_brokers.map(|name| record(name, None))).collect()
}

/// The minimum that a node was started with and the cluster's, where they differ: the first has no effect.
pub fn overridden_min_isr(image: &MetadataImage, statics: &Statics) -> Option<(String, Str)> {
    let all = ConfigResource { kind: ResourceKind::Broker, name: Str::default() };
    let (given, cluster) = (statics.0.get(MIN_ISR)?, image.config(&all, MIN_ISR)?);
    (given.trim() != &**cluster).then(|| (given.clone(), cluster.clone()))
}

/// Refuses a change after which a broker would have a minimum of its own, or the cluster none. `after` has the configs of `resource` that
/// change.
pub(super) fn check_min_isr(resource: &ConfigResource, after: &BTreeMap<Str, Option<Str>>) -> Result<(), Refusal> {
    let refuse = |message: &'static str| Err(Refusal::new(ErrorCode::INVALID_CONFIG, message));
    match after.get(MIN_ISR) {
        Some(_) if resource.kind != ResourceKind::Broker => Ok(()),
        Some(_) if !resource.name.is_empty() => {
            refuse("Broker-level min.insync.replicas cannot be altered while ELR is enabled.")
        }
        Some(None) => refuse("Cluster-level min.insync.replicas cannot be removed while ELR is enabled."),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use esker_protocol::primitives::Uuid;

    use super::super::{ControllerRequest, NodeConfigs, SettleMinIsr, decide};
    use super::*;
    use crate::metadata::{BrokerRecord, PartitionRecord, TopicRecord};

    fn set(image: &mut MetadataImage, broker: &'static str, value: &'static str) {
        image.apply(&MetadataRecord::Config(ConfigRecord {
            resource_type: ResourceKind::Broker.id(),
            resource_name: broker.into(),
            name: MIN_ISR.into(),
            value: Some(value.into()),
        }));
    }

    fn settled(image: &mut MetadataImage, statics: &[(&str, &str)]) -> usize {
        let statics = Statics(statics.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
        let records = settle_min_isr(image, ElectionRules { node_id: 1, statics: &statics });
        records.iter().for_each(|record| image.apply(record));
        records.len()
    }

    fn minimum(image: &MetadataImage, node_id: i32, statics: &[(&str, &str)]) -> usize {
        let statics = Statics(statics.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
        ElectionRules { node_id, statics: &statics }.min_isr(image, "t")
    }

    #[test]
    fn every_node_has_the_minimum_of_the_first_controller() {
        let mut image = MetadataImage::default();
        assert_eq!(settled(&mut image, &[(MIN_ISR, "2")]), 1);
        for (node_id, statics) in [(1, vec![]), (2, vec![(MIN_ISR, "1")]), (3, vec![(MIN_ISR, "3")])] {
            assert_eq!(minimum(&image, node_id, &statics), 2, "node {node_id}, started with {statics:?}");
        }
        assert_eq!(settled(&mut image, &[(MIN_ISR, "3")]), 0, "another controller does not change it");
        let given = |value: &str| Statics([(MIN_ISR.to_owned(), value.to_owned())].into());
        assert_eq!(overridden_min_isr(&image, &given("3")), Some(("3".to_owned(), "2".into())));
        assert!(overridden_min_isr(&image, &given("2")).is_none());
        assert!(overridden_min_isr(&image, &Statics::default()).is_none());
        let mut image = MetadataImage::default();
        assert_eq!((settled(&mut image, &[]), minimum(&image, 1, &[(MIN_ISR, "2")])), (1, 1), "Kafka's default");
    }

    #[test]
    fn a_lower_minimum_ends_what_a_replica_was_eligible_for() {
        let topic_id = Uuid([7; 16]);
        let mut image = MetadataImage::default();
        for node_id in [2, 3] {
            image.apply(&MetadataRecord::Broker(BrokerRecord { node_id, ..BrokerRecord::default() }));
        }
        image.apply(&MetadataRecord::Topic(TopicRecord { name: "t".into(), id: topic_id }));
        image.apply(&MetadataRecord::Partition(PartitionRecord {
            topic_id,
            leader: 2,
            replicas: vec![2, 3],
            isr: vec![2],
            elr: vec![3],
            ..PartitionRecord::default()
        }));
        for (value, elr) in [("2", vec![3]), ("1", vec![])] {
            let statics = Statics([(MIN_ISR.to_owned(), value.to_owned())].into());
            let configs = NodeConfigs { node_id: 2, statics: Arc::new(statics) };
            let decision = decide(&image, &SettleMinIsr { configs }.into_request());
            let mut after = image.clone();
            decision.records.iter().for_each(|record| after.apply(record));
            assert_eq!(after.topic("t").unwrap().partitions[0].elr, elr, "with a minimum of {value}");
        }
    }

    #[test]
    fn the_minima_of_single_brokers_go() {
        let mut image = MetadataImage::default();
        set(&mut image, "", "2");
        set(&mut image, "2", "1");
        assert_eq!(minimum(&image, 2, &[]), 1);
        assert_eq!(settled(&mut image, &[]), 1);
        assert_eq!(minimum(&image, 2, &[]), 2);
    }

    #[test]
    fn a_minimum_of_one_broker_and_none_for_the_cluster_are_refused() {
        let broker = |name: &'static str| ConfigResource { kind: ResourceKind::Broker, name: name.into() };
        let after = |value: Option<&'static str>| BTreeMap::from([(Str::from(MIN_ISR), value.map(Str::from))]);
        for (resource, value, refused) in [
            (broker("1"), Some("2"), true),
            (broker("1"), None, true),
            (broker(""), Some("2"), false),
            (broker(""), None, true),
            (ConfigResource::topic("t"), Some("2"), false),
            (ConfigResource::topic("t"), None, false),
        ] {
            let checked = check_min_isr(&resource, &after(value));
            assert_eq!(checked.is_err(), refused, "{resource:?} {value:?}");
        }
        let other = BTreeMap::from([(Str::from("log.retention.ms"), None)]);
        assert!(check_min_isr(&broker("1"), &other).is_ok());
    }
}
