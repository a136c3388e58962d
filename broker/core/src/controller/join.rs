//! A broker registers with a cluster of several: fenced at first, under an epoch that is the offset of its registration.
//!
//! A new incarnation ends the one before: the broker leaves the in-sync sets, and what it is still eligible for depends on how the one
//! before ended. A clean shutdown flushed everything. A crash lost what was not flushed, which no committed record of a topic with
//! `durability=flush` is. Without the log dirs of before the broker has nothing.

use std::collections::BTreeSet;

use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::Uuid;

use super::decision::{Decision, Refusal};
use super::elections::{ElectionRules, Event, apply_event};
use super::register::Registration;
use crate::metadata::{
    BrokerImage, BrokerRecord, FeatureRangeRecord, ListenerRecord, MetadataImage, MetadataRecord, directory,
};

/// The request of a broker to join.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinRequest {
    /// The broker's registration.
    pub registration: Registration,
    /// Features that it supports.
    pub features: Vec<FeatureRangeRecord>,
    /// The newest record level that it reads.
    pub record_level: i16,
    /// The epoch that it had when it shut down cleanly, -1 if it did not.
    pub previous_epoch: i64,
}

/// Decides the registration of a broker: the answer is its epoch. `alive` means that the registered incarnation has a
/// session; two brokers with one id would overwrite each other's partitions.
pub fn join_broker(
    image: &MetadataImage,
    rules: ElectionRules<'_>,
    request: &JoinRequest,
    alive: bool,
) -> Result<Decision<i64>, Refusal> {
    let registration = &request.registration;
    let node_id = registration.node_id;
    let known = image.broker(node_id);
    let amended = known.filter(|known| known.incarnation == registration.incarnation);
    if let Some(other) = known.filter(|known| alive && !known.in_controlled_shutdown && amended.is_none()) {
        let message = format!(
            "Another broker is registered with broker id {node_id} and is alive, the one at {}; this one is at {}. If it was restarted a moment ago, it may try again when the session of the one before has ended; two brokers need two ids.",
            first_address(&other.listeners),
            first_address(&registration.listeners)
        );
        return Err(Refusal::new(ErrorCode::DUPLICATE_BROKER_REGISTRATION, message));
    }
    check_directories(image, registration)?;
    check_levels(image, request)?;
    let mut records = Vec::new();
    if amended.is_none() {
        let event = end_of_previous(known, request);
        records.extend(apply_event(image, rules, image.replicated_by(node_id), event));
    }
    let next_epoch = || {
        let offset = i64::try_from(image.offset()).unwrap_or(i64::MAX);
        known.map_or(offset, |known| offset.max(known.epoch.saturating_add(1)))
    };
    let epoch = amended.map_or_else(next_epoch, |known| known.epoch);
    records.push(MetadataRecord::Broker(BrokerRecord {
        node_id,
        epoch,
        incarnation: registration.incarnation,
        listeners: registration.listeners.clone(),
        rack: registration.rack.clone(),
        log_dirs: registration.log_dirs.clone(),
        fenced: amended.is_none_or(|known| known.fenced),
        in_controlled_shutdown: amended.is_some_and(|known| known.in_controlled_shutdown),
        features: request.features.clone(),
        record_level: request.record_level,
        cordoned_log_dirs: registration.cordoned_at(image.level()),
    }));
    Ok(Decision { records, reply: epoch })
}

fn first_address(listeners: &[ListenerRecord]) -> String {
    listeners.first().map_or_else(|| "no address".to_owned(), |first| format!("{}:{}", first.host, first.port))
}

/// What the end of the previous incarnation left behind.
fn end_of_previous(known: Option<&BrokerImage>, request: &JoinRequest) -> Event {
    let node_id = request.registration.node_id;
    match known {
        // Replicas of a broker that is not known: of one that was unregistered, or assigned before it came.
        None => Event::Lost(node_id),
        Some(known) if !known.log_dirs.iter().all(|dir| request.registration.log_dirs.contains(dir)) => {
            Event::Lost(node_id)
        }
        Some(known) if known.epoch == request.previous_epoch => Event::Leaves(node_id),
        Some(_) => Event::Crashed(node_id),
    }
}

fn check_directories(image: &MetadataImage, registration: &Registration) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::new(ErrorCode::INVALID_REGISTRATION, message));
    let dirs = &registration.log_dirs;
    if dirs.is_empty() {
        return invalid("No directories specified in request".to_owned());
    }
    if dirs.iter().any(|dir| directory::is_reserved(*dir)) {
        return invalid("Reserved directory ID in request".to_owned());
    }
    if dirs.iter().collect::<BTreeSet<&Uuid>>().len() != dirs.len() {
        return invalid("Duplicate directory ID in request".to_owned());
    }
    for other in image.brokers().filter(|broker| broker.node_id != registration.node_id) {
        if let Some(dir) = dirs.iter().find(|dir| other.log_dirs.contains(dir)) {
            return invalid(format!("Broker {} is already registered with directory {dir}", other.node_id));
        }
    }
    Ok(())
}

/// A broker that cannot read what the log holds, or lacks a feature that is in use, stays out.
fn check_levels(image: &MetadataImage, request: &JoinRequest) -> Result<(), Refusal> {
    let unsupported = |message: String| Err(Refusal::new(ErrorCode::UNSUPPORTED_VERSION, message));
    let level = image.level().0;
    if request.record_level < level {
        return unsupported(format!(
            "Unable to register because the broker reads metadata records up to level {}, and the cluster is at level {level}: update the broker.",
            request.record_level
        ));
    }
    for (name, finalized) in image.features().filter(|(_, level)| *level > 0) {
        let range = request.features.iter().find(|range| range.name == *name);
        let (min, max) = range.map_or((0, 0), |range| (range.min_level, range.max_level));
        if !(min..=max).contains(&finalized) {
            return unsupported(format!(
                "Unable to register because the broker does not support finalized version {finalized} of {name}. The broker wants a version between {min} and {max}, inclusive."
            ));
        }
    }
    Ok(())
}
