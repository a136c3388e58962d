//! UpdateFeatures (KIP-584): raises and lowers the features of the cluster, within what this version of Esker supports.

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};

use super::decision::{Decision, Refusal};
use crate::metadata::{FeatureRecord, MetadataImage, MetadataRecord, SUPPORTED_FEATURES};

/// The features of a new cluster.
pub fn new_cluster_features() -> Vec<MetadataRecord> {
    SUPPORTED_FEATURES
        .iter()
        .map(|f| MetadataRecord::Feature(FeatureRecord { name: f.name.into(), level: f.default_level }))
        .collect()
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
        match check(image, update, version) {
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
    // Version 2 has no results of single features; before that, a refusal of one speaks for all.
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
    Ok((wanted != current).then(|| MetadataRecord::Feature(FeatureRecord { name: name.detached(), level: wanted })))
}
