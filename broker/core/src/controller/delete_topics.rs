//! DeleteTopics: by name, or from version 6 by id (KIP-516). A topic that is made again under the same name is another one.

use std::collections::{BTreeMap, BTreeSet};

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::delete_topics::{DeletableTopicResult, DeleteTopicState, DeleteTopicsResponse};
use esker_protocol::primitives::Uuid;

use super::decision::{Decision, Refusal};
use crate::metadata::{MetadataImage, MetadataRecord, RemoveTopicRecord, TopicImage};

/// Decides which of `wanted` are deleted. `enabled` is `delete.topic.enable`.
pub fn delete_topics(
    image: &MetadataImage,
    wanted: &[DeleteTopicState],
    enabled: bool,
) -> Decision<DeleteTopicsResponse> {
    // Whatever is named more than once, even by name and id, is answered once and not deleted.
    let mut found_times: BTreeMap<Uuid, usize> = BTreeMap::new();
    wanted.iter().filter_map(|topic| find(image, topic).ok()).for_each(|t| *found_times.entry(t.id).or_default() += 1);
    let (mut records, mut responses, mut answered) = (Vec::new(), Vec::new(), BTreeSet::new());
    for topic in wanted {
        let mut decided = find(image, topic);
        if let Ok(found) = decided {
            if !answered.insert(found.id) {
                continue;
            }
            if found_times.get(&found.id).is_some_and(|times| *times > 1) {
                decided = Err(Refusal::new(ErrorCode::INVALID_REQUEST, "Duplicate topic name or id."));
            } else if !enabled {
                decided = Err(Refusal::new(ErrorCode::TOPIC_DELETION_DISABLED, "Topic deletion is disabled."));
            }
        }
        responses.push(match decided {
            Ok(found) => {
                records.push(MetadataRecord::RemoveTopic(RemoveTopicRecord { id: found.id }));
                DeletableTopicResult { name: Some(found.name.clone()), topic_id: found.id, ..Default::default() }
            }
            Err(refusal) => DeletableTopicResult {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                error_code: refusal.code,
                error_message: Some(refusal.message),
            },
        });
    }
    Decision { records, reply: DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() } }
}

fn find<'a>(image: &'a MetadataImage, topic: &DeleteTopicState) -> Result<&'a TopicImage, Refusal> {
    match &topic.name {
        Some(_) if !topic.topic_id.is_zero() => {
            Err(Refusal::new(ErrorCode::INVALID_REQUEST, "You may not specify both topic name and topic id."))
        }
        Some(name) => image.topic(name).map(|t| &**t).ok_or_else(|| {
            Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")
        }),
        None if topic.topic_id.is_zero() => {
            Err(Refusal::new(ErrorCode::INVALID_REQUEST, "Neither topic name nor id were specified."))
        }
        None => image
            .topic_by_id(topic.topic_id)
            .map(|t| &**t)
            .ok_or_else(|| Refusal::new(ErrorCode::UNKNOWN_TOPIC_ID, "This server does not host this topic ID.")),
    }
}
