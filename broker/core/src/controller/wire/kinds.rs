//! The list of kinds: the number of each request on the wire, and of its answer.

use esker_protocol::primitives::{EncodeError, Reader, Writer};

use super::super::peer_requests::{
    AllocateNodeId, AlterPartition, AssignDirectories, BalanceLeaders, FailDirectories, FenceBroker,
    ForgetRemovedVoter, GrowInternalTopics, JoinBroker, RemoveVoterIdentity, SettleMinIsr, ShutDownBroker,
    UnfenceBroker, UnregisterBroker,
};
use super::super::request::{
    AllocateProducerIds, AlterConfigs, AlterPartitionReassignments, ControllerRequest, CreatePartitions, CreateTopics,
    DeleteTopics, ElectLeaders, InitializeFeatures, ReadMetadata, RegisterBroker, Reply, Request, UpdateFeatures,
};
use super::body::{Body, WireError};

/// The version of every body so far.
const VERSION: i16 = 0;

fn header(w: &mut Writer, kind: i16) {
    w.put_i16(kind);
    w.put_i16(VERSION);
}

fn get<T: Body>(mut r: Reader, kind: i16, name: &'static str, version: i16) -> Result<T, WireError> {
    if version != VERSION {
        return Err(WireError::UnknownVersion { kind, name, version });
    }
    let body = T::get(&mut r).map_err(|error| WireError::Body { name, error })?;
    match r.remaining() {
        0 => Ok(body),
        left => Err(WireError::Trailing { name, left }),
    }
}

macro_rules! kinds {
    ($($number:literal $name:ident,)*) => {
        pub(super) fn put_request(request: &Request, w: &mut Writer) -> Result<(), EncodeError> {
            match request {
                $(Request::$name(body) => {
                    header(w, $number);
                    body.put(w)
                })*
            }
        }

        pub(super) fn get_request(r: Reader, kind: i16, version: i16) -> Result<Request, WireError> {
            match kind {
                $($number => get::<$name>(r, kind, stringify!($name), version).map(Request::$name),)*
                _ => Err(WireError::UnknownKind(kind)),
            }
        }

        pub(super) fn put_reply(reply: &Reply, w: &mut Writer) -> Result<(), EncodeError> {
            match reply {
                $(Reply::$name(body) => {
                    header(w, $number);
                    body.put(w)
                })*
            }
        }

        pub(super) fn get_reply(r: Reader, kind: i16, version: i16) -> Result<Reply, WireError> {
            match kind {
                $($number => get::<<$name as ControllerRequest>::Reply>(r, kind, stringify!($name), version).map(Reply::$name),)*
                _ => Err(WireError::UnknownKind(kind)),
            }
        }
    };
}

// A number is never given to another request.
kinds! {
    1 RegisterBroker,
    2 InitializeFeatures,
    3 CreateTopics,
    4 CreatePartitions,
    5 DeleteTopics,
    6 AlterConfigs,
    7 ElectLeaders,
    8 AlterPartitionReassignments,
    9 UpdateFeatures,
    10 AllocateProducerIds,
    11 JoinBroker,
    12 FenceBroker,
    13 UnfenceBroker,
    14 ShutDownBroker,
    15 UnregisterBroker,
    16 AlterPartition,
    17 AssignDirectories,
    18 FailDirectories,
    19 AllocateNodeId,
    20 RemoveVoterIdentity,
    21 ForgetRemovedVoter,
    22 BalanceLeaders,
    23 ReadMetadata,
    24 SettleMinIsr,
    25 GrowInternalTopics,
}
