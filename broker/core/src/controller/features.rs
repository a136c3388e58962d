//! UpdateFeatures (KIP-584): raises and lowers the features of the cluster, within what every registered broker supports.
//!
//! An upgrade of `metadata.version` to the highest level also raises the record level of the metadata log, so that the command that ends
//! an upgrade of Kafka ends one of Esker, too: until then every broker can go back to the version before.

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};

use super::decision::{Decision, Refusal};
use crate::metadata::{
    FeatureRecord, METADATA_VERSION, MetadataImage, MetadataRecord, RecordLevel, SUPPORTED_FEATURES,
};

/// What a new cluster begins with: the level of its records, then its features.
pub fn new_cluster_features() -> Vec<MetadataRecord> {
    let features = SUPPORTED_FEATURES
        .iter()
        .map(|f| MetadataRecord::Feature(FeatureRecord { name: f.name.into(), level: f.default_level }));
    std::iter::once(MetadataRecord::newest_level()).chain(features).collect()
}

/// `upgrade_type` of a request: how far down a feature may go.
const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

/// Decides an UpdateFeatures request in `version`: all or nothing.
pub fn update_features(
    image: &MetadataImage,
    request: &UpdateFeaturesRequest,
    version: i16,
) -> Decision<UpdateFeaturesResponse> {
    let mut response = UpdateFeaturesResponse::default();
    let mut records = Vec::new();
    let mut failed: Option<Refusal> = None;
    for update in &request.feature_updates {
        let checked = check(image, update, version).and_then(|record| {
            let level = raise_level(image, update)?;
            Ok(level.into_iter().chain(record))
        });
        match checked {
            Ok(record) => records.extend(record),
            Err(refusal) => {
                failed.get_or_insert(refusal);
            }
        }
        let result = UpdatableFeatureResult { feature: update.feature.clone(), ..Default::default() };
        response.results.push(result);
    }
    if let Some(refusal) = failed {
        records.clear();
        response.error_code = refusal.code;
        response.error_message = Some(refusal.message);
    }
    // Version 2 has no results of single features; before that, a refusal of one feature fails the whole request.
    if version >= 2 || response.error_code.is_error() {
        response.results.clear();
    }
    if request.validate_only {
        records.clear();
    }
    Decision { records, reply: response }
}

fn check(image: &MetadataImage, update: &FeatureUpdateKey, version: i16) -> Result<Option<MetadataRecord>, Refusal> {
    let refuse = |message: String| Err(Refusal::new(ErrorCode::INVALID_UPDATE_VERSION, message));
    let (name, wanted) = (&update.feature, update.max_version_level);
    let Some(feature) = SUPPORTED_FEATURES.iter().find(|f| *name == f.name) else {
        return refuse(format!(
            "Invalid update version {wanted} for feature {name}. The controller does not support the given feature."
        ));
    };
    let current = image.feature(name);
    let kind = match version {
        0 if update.allow_downgrade => SAFE_DOWNGRADE,
        0 => UPGRADE,
        _ => update.upgrade_type,
    };
    if !(UPGRADE..=UNSAFE_DOWNGRADE).contains(&kind) {
        return refuse(format!("Invalid update type {kind} for feature {name}."));
    }
    if wanted < feature.min_level || wanted > feature.max_level {
        return refuse(format!(
            "Invalid update version {wanted} for feature {name}. Levels from {} to {} are supported.",
            feature.min_level, feature.max_level
        ));
    }
    if wanted < current && kind == UPGRADE {
        return refuse(format!(
            "Invalid update version {wanted} for feature {name}. Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade."
        ));
    }
    if wanted > current && kind != UPGRADE {
        return refuse(format!(
            "Invalid update version {wanted} for feature {name}. Can't downgrade to a newer version."
        ));
    }
    let without = image.brokers().find(|broker| {
        let range = broker.features.iter().find(|range| range.name == *name);
        range.is_some_and(|range| !(range.min_level..=range.max_level).contains(&wanted))
    });
    if let Some(broker) = without {
        return refuse(format!(
            "Invalid update version {wanted} for feature {name}. Broker {} does not support this feature level.",
            broker.node_id
        ));
    }
    Ok((wanted != current).then(|| MetadataRecord::Feature(FeatureRecord { name: name.detached(), level: wanted })))
}

/// The record that raises the record level, where `update` requests the highest `metadata.version`.
fn raise_level(image: &MetadataImage, update: &FeatureUpdateKey) -> Result<Option<MetadataRecord>, Refusal> {
    let highest = SUPPORTED_FEATURES.iter().find(|f| f.name == METADATA_VERSION).map(|f| f.max_level);
    let asked = *update.feature == *METADATA_VERSION && Some(update.max_version_level) == highest;
    if !asked || image.level() >= RecordLevel::NEWEST {
        return Ok(None);
    }
    match image.brokers().find(|broker| broker.record_level < RecordLevel::NEWEST.0) {
        None => Ok(Some(MetadataRecord::newest_level())),
        Some(broker) => Err(Refusal::new(
            ErrorCode::INVALID_UPDATE_VERSION,
            format!(
                "Broker {} reads metadata records up to level {}, and this upgrade needs level {}: update it, or unregister it.",
                broker.node_id,
                broker.record_level,
                RecordLevel::NEWEST.0
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{BrokerRecord, FeatureRangeRecord};

    fn upgrade(image: &MetadataImage, level: i16) -> Decision<UpdateFeaturesResponse> {
        let key = FeatureUpdateKey {
            feature: METADATA_VERSION.into(),
            max_version_level: level,
            upgrade_type: UPGRADE,
            ..FeatureUpdateKey::default()
        };
        let request = UpdateFeaturesRequest { feature_updates: vec![key], ..UpdateFeaturesRequest::default() };
        update_features(image, &request, 1)
    }

    fn broker(node_id: i32, record_level: i16, max_level: i16) -> MetadataRecord {
        let range = FeatureRangeRecord { name: METADATA_VERSION.into(), min_level: 7, max_level };
        let features = vec![range];
        MetadataRecord::Broker(BrokerRecord { node_id, record_level, features, ..BrokerRecord::default() })
    }

    #[test]
    fn an_upgrade_raises_the_record_level_once_every_broker_reads_it() {
        let newest = RecordLevel::NEWEST.0;
        let mut image = MetadataImage::default();
        image.apply(&broker(1, newest, 33));
        image.apply(&broker(2, newest - 1, 33));
        let refused = upgrade(&image, 33);
        assert_eq!((refused.records.len(), refused.reply.error_code), (0, ErrorCode::INVALID_UPDATE_VERSION));
        assert!(refused.reply.error_message.unwrap().contains("Broker 2"));
        assert!(!upgrade(&image, 32).records.contains(&MetadataRecord::newest_level()), "not the highest");
        image.apply(&broker(2, newest, 33));
        let raised = upgrade(&image, 33).records;
        assert_eq!(raised.first(), Some(&MetadataRecord::newest_level()), "before any record that needs it");
        raised.iter().for_each(|record| image.apply(record));
        assert_eq!(image.level(), RecordLevel::NEWEST);
        assert!(upgrade(&image, 33).records.is_empty(), "and once");
    }

    #[test]
    fn a_feature_stays_within_what_each_broker_supports() {
        let mut image = MetadataImage::default();
        image.apply(&MetadataRecord::newest_level());
        image.apply(&broker(1, 1, 33));
        image.apply(&broker(2, 1, 32));
        let refused = upgrade(&image, 33).reply;
        assert_eq!(refused.error_code, ErrorCode::INVALID_UPDATE_VERSION);
        assert!(refused.error_message.unwrap().contains("Broker 2 does not support"));
        assert_eq!(upgrade(&image, 32).reply.error_code, ErrorCode::NONE);
    }
}
