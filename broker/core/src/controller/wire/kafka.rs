//! Kafka's messages inside requests and answers, each in one version: the newest that Esker serves, so that nothing is lost.

use esker_protocol::Message;
use esker_protocol::messages::alter_partition::{AlterPartitionRequest, AlterPartitionResponse};
use esker_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use esker_protocol::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsResponse};
use esker_protocol::messages::create_topics::{CreateTopicsRequest, CreateTopicsResponse};
use esker_protocol::messages::delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
use esker_protocol::messages::elect_leaders::{ElectLeadersRequest, ElectLeadersResponse};
use esker_protocol::messages::update_features::UpdateFeaturesResponse;
use esker_protocol::primitives::{DecodeError, EncodeError, Reader, Writer};

use super::body::Body;

macro_rules! pinned {
    ($($message:ident $version:literal,)*) => {
        $(impl Body for $message {
            fn put(&self, w: &mut Writer) -> Result<(), EncodeError> {
                self.encode(w, $version)
            }

            fn get(r: &mut Reader) -> Result<Self, DecodeError> {
                Self::decode(r, $version)
            }
        })*

        /// Name and pinned version of each.
        #[cfg(test)]
        pub(super) const PINNED: &[(&str, i16, &esker_protocol::schema::Schema)] =
            &[$((stringify!($message), $version, $message::SCHEMA),)*];
    };
}

pinned! {
    CreateTopicsRequest 7,
    CreateTopicsResponse 7,
    CreatePartitionsRequest 3,
    CreatePartitionsResponse 3,
    DeleteTopicsRequest 6,
    DeleteTopicsResponse 6,
    ElectLeadersRequest 2,
    ElectLeadersResponse 2,
    AlterPartitionReassignmentsRequest 1,
    AlterPartitionReassignmentsResponse 1,
    AlterPartitionRequest 3,
    AlterPartitionResponse 3,
    // Version 2 has no results of single features, and nothing that version 1 lacks.
    UpdateFeaturesResponse 1,
}
