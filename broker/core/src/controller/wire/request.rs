//! Requests on the wire.

use esker_protocol::Message;
use esker_protocol::messages::delete_topics::DeleteTopicsRequest;
use esker_protocol::messages::update_features::UpdateFeaturesRequest;
use esker_protocol::primitives::{DecodeError, EncodeError, Reader, Uuid, Writer};

use super::super::peer_requests::{
    AllocateNodeId, AlterPartition, AssignDirectories, BalanceLeaders, FailDirectories, FenceBroker,
    ForgetRemovedVoter, GrowInternalTopics, JoinBroker, RemoveVoterIdentity, SettleMinIsr, ShutDownBroker,
    UnfenceBroker, UnregisterBroker,
};
use super::super::request::{
    AllocateProducerIds, AlterConfigs, AlterPartitionReassignments, CreatePartitions, CreateTopics, DeleteTopics,
    ElectLeaders, InitializeFeatures, ReadMetadata, RegisterBroker, TopicDefaults, UpdateFeatures,
};
use super::bodies::{
    AssignedBody, FoundBody, JoinBody, RegistrationBody, StaticsBody, TargetBody, in_range, parts, whole,
};
use super::body::Body;

/// Bodies of version 0: the struct as it stands in the request.
macro_rules! bodies {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $ty:ty,)* })*) => {
        $($(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Message)]
        #[message(versions = "0", flexible = "0+")]
        struct $name { $($(#[$attr])* $field: $ty,)* })*
    };
}

bodies! {
    RegisterBody { registration: RegistrationBody, found: Vec<FoundBody>, fresh_ids: Vec<Uuid>, }
    /// A seed is sent as its bits.
    CreateTopicsBody {
        defaults: StaticsBody,
        partitions: i32,
        replication_factor: i16,
        topic_ids: Vec<Uuid>,
        seed: i64,
    }
    SeedBody { seed: i64, }
    EnabledBody { enabled: bool, }
    AlterConfigsBody { targets: Vec<TargetBody>, validate_only: bool, configs: StaticsBody, }
    ConfigsBody { configs: StaticsBody, }
    VersionBody { version: i16, }
    NodeBody { node_id: i32, }
    EmptyBody {}
    JoinBrokerBody { join: JoinBody, directory: Uuid, configs: StaticsBody, }
    BrokerBody { node_id: i32, epoch: i64, configs: StaticsBody, }
    UnfenceBody { node_id: i32, epoch: i64, applied: i64, configs: StaticsBody, }
    UnregisterBody { node_id: i32, configs: StaticsBody, }
    AssignBody { node_id: i32, epoch: i64, replicas: Vec<AssignedBody>, configs: StaticsBody, }
    FailBody { node_id: i32, epoch: i64, failed: Vec<Uuid>, configs: StaticsBody, }
    /// With `any`, the node wants no id in particular.
    AllocateBody { wanted: i32, any: bool, directory: Uuid, }
    VoterBody { node_id: i32, directory: Uuid, }
    DirectoryBody { directory: Uuid, }
    BalanceBody { limit: u32, configs: StaticsBody, }
}

/// `Body` of a request that is one message: the message from the request, and the request from the message.
macro_rules! plain {
    ($($request:ident as $body:ident: $from:expr, $into:expr;)*) => {
        $(impl Body for $request {
            fn put(&self, w: &mut Writer) -> Result<(), EncodeError> {
                let from: fn(&$request) -> $body = $from;
                from(self).encode(w, 0)
            }

            fn get(r: &mut Reader) -> Result<Self, DecodeError> {
                let into: fn($body) -> Result<$request, DecodeError> = $into;
                into($body::decode(r, 0)?)
            }
        })*
    };
}

plain! {
    RegisterBroker as RegisterBody:
        |it| RegisterBody {
            registration: (&it.registration).into(),
            found: parts(&it.found),
            fresh_ids: it.fresh_ids.clone(),
        },
        |it| Ok(RegisterBroker {
            registration: it.registration.into(),
            found: whole(it.found),
            fresh_ids: it.fresh_ids,
        });
    InitializeFeatures as EmptyBody: |_| EmptyBody {}, |_| Ok(InitializeFeatures);
    ReadMetadata as EmptyBody: |_| EmptyBody {}, |_| Ok(ReadMetadata);
    AlterConfigs as AlterConfigsBody:
        |it| AlterConfigsBody {
            targets: parts(&it.targets),
            validate_only: it.validate_only,
            configs: StaticsBody::new(it.node_id, &it.statics),
        },
        |it| Ok(AlterConfigs {
            targets: whole(it.targets),
            validate_only: it.validate_only,
            node_id: it.configs.node_id,
            statics: it.configs.statics(),
        });
    AllocateProducerIds as NodeBody:
        |it| NodeBody { node_id: it.node_id },
        |it| Ok(AllocateProducerIds { node_id: it.node_id });
    JoinBroker as JoinBrokerBody:
        |it| JoinBrokerBody { join: (&it.join).into(), directory: it.directory, configs: (&it.configs).into() },
        |it| Ok(JoinBroker {
            join: it.join.into(),
            directory: it.directory,
            configs: it.configs.into(),
            alive: true,
        });
    FenceBroker as BrokerBody:
        |it| BrokerBody { node_id: it.node_id, epoch: it.epoch, configs: (&it.configs).into() },
        |it| Ok(FenceBroker { node_id: it.node_id, epoch: it.epoch, configs: it.configs.into() });
    UnfenceBroker as UnfenceBody:
        |it| UnfenceBody {
            node_id: it.node_id,
            epoch: it.epoch,
            applied: i64::try_from(it.applied).unwrap_or(i64::MAX),
            configs: (&it.configs).into(),
        },
        |it| Ok(UnfenceBroker {
            node_id: it.node_id,
            epoch: it.epoch,
            applied: in_range(it.applied)?,
            configs: it.configs.into(),
        });
    ShutDownBroker as BrokerBody:
        |it| BrokerBody { node_id: it.node_id, epoch: it.epoch, configs: (&it.configs).into() },
        |it| Ok(ShutDownBroker { node_id: it.node_id, epoch: it.epoch, configs: it.configs.into() });
    UnregisterBroker as UnregisterBody:
        |it| UnregisterBody { node_id: it.node_id, configs: (&it.configs).into() },
        |it| Ok(UnregisterBroker { node_id: it.node_id, configs: it.configs.into() });
    AssignDirectories as AssignBody:
        |it| AssignBody {
            node_id: it.node_id,
            epoch: it.epoch,
            replicas: parts(&it.replicas),
            configs: (&it.configs).into(),
        },
        |it| Ok(AssignDirectories {
            node_id: it.node_id,
            epoch: it.epoch,
            replicas: whole(it.replicas),
            configs: it.configs.into(),
        });
    FailDirectories as FailBody:
        |it| FailBody {
            node_id: it.node_id,
            epoch: it.epoch,
            failed: it.failed.clone(),
            configs: (&it.configs).into(),
        },
        |it| Ok(FailDirectories {
            node_id: it.node_id,
            epoch: it.epoch,
            failed: it.failed,
            configs: it.configs.into(),
        });
    AllocateNodeId as AllocateBody:
        |it| AllocateBody {
            wanted: it.wanted.unwrap_or(-1),
            any: it.wanted.is_none(),
            directory: it.directory,
        },
        |it| Ok(AllocateNodeId {
            wanted: (!it.any).then_some(it.wanted),
            directory: it.directory,
            abandoned: Vec::new(),
        });
    RemoveVoterIdentity as VoterBody:
        |it| VoterBody { node_id: it.node_id, directory: it.directory },
        |it| Ok(RemoveVoterIdentity { node_id: it.node_id, directory: it.directory });
    ForgetRemovedVoter as DirectoryBody:
        |it| DirectoryBody { directory: it.directory },
        |it| Ok(ForgetRemovedVoter { directory: it.directory });
    BalanceLeaders as BalanceBody:
        |it| BalanceBody { limit: it.limit, configs: (&it.configs).into() },
        |it| Ok(BalanceLeaders { limit: it.limit, configs: it.configs.into() });
    GrowInternalTopics as BalanceBody:
        |it| BalanceBody { limit: it.limit, configs: (&it.configs).into() },
        |it| Ok(GrowInternalTopics { limit: it.limit, configs: it.configs.into() });
    SettleMinIsr as ConfigsBody:
        |it| ConfigsBody { configs: (&it.configs).into() },
        |it| Ok(SettleMinIsr { configs: it.configs.into() });
}

impl Body for CreateTopics {
    fn put(&self, w: &mut Writer) -> Result<(), EncodeError> {
        let TopicDefaults { node_id, statics, partitions, replication_factor } = &self.defaults;
        let body = CreateTopicsBody {
            defaults: StaticsBody::new(*node_id, statics),
            partitions: *partitions,
            replication_factor: *replication_factor,
            topic_ids: self.topic_ids.clone(),
            seed: self.seed.cast_signed(),
        };
        body.encode(w, 0)?;
        self.request.put(w)
    }

    fn get(r: &mut Reader) -> Result<Self, DecodeError> {
        let body = CreateTopicsBody::decode(r, 0)?;
        let (partitions, replication_factor) = (body.partitions, body.replication_factor);
        let node_id = body.defaults.node_id;
        let defaults = TopicDefaults { node_id, statics: body.defaults.statics(), partitions, replication_factor };
        Ok(Self { request: Body::get(r)?, defaults, topic_ids: body.topic_ids, seed: body.seed.cast_unsigned() })
    }
}

impl Body for CreatePartitions {
    fn put(&self, w: &mut Writer) -> Result<(), EncodeError> {
        SeedBody { seed: self.seed.cast_signed() }.encode(w, 0)?;
        self.request.put(w)
    }

    fn get(r: &mut Reader) -> Result<Self, DecodeError> {
        let seed = SeedBody::decode(r, 0)?.seed.cast_unsigned();
        Ok(Self { request: Body::get(r)?, seed })
    }
}

impl Body for DeleteTopics {
    fn put(&self, w: &mut Writer) -> Result<(), EncodeError> {
        EnabledBody { enabled: self.enabled }.encode(w, 0)?;
        DeleteTopicsRequest { topics: self.topics.clone(), ..DeleteTopicsRequest::default() }.put(w)
    }

    fn get(r: &mut Reader) -> Result<Self, DecodeError> {
        let enabled = EnabledBody::decode(r, 0)?.enabled;
        Ok(Self { topics: DeleteTopicsRequest::get(r)?.topics, enabled })
    }
}

impl Body for ElectLeaders {
    fn put(&self, w: &mut Writer) -> Result<(), EncodeError> {
        ConfigsBody { configs: StaticsBody::new(self.node_id, &self.statics) }.encode(w, 0)?;
        self.request.put(w)
    }

    fn get(r: &mut Reader) -> Result<Self, DecodeError> {
        let configs = ConfigsBody::decode(r, 0)?.configs;
        Ok(Self { request: Body::get(r)?, node_id: configs.node_id, statics: configs.statics() })
    }
}

impl Body for AlterPartitionReassignments {
    fn put(&self, w: &mut Writer) -> Result<(), EncodeError> {
        ConfigsBody { configs: StaticsBody::new(self.node_id, &self.statics) }.encode(w, 0)?;
        self.request.put(w)
    }

    fn get(r: &mut Reader) -> Result<Self, DecodeError> {
        let configs = ConfigsBody::decode(r, 0)?.configs;
        Ok(Self { request: Body::get(r)?, node_id: configs.node_id, statics: configs.statics() })
    }
}

impl Body for AlterPartition {
    fn put(&self, w: &mut Writer) -> Result<(), EncodeError> {
        ConfigsBody { configs: (&self.configs).into() }.encode(w, 0)?;
        self.request.put(w)
    }

    fn get(r: &mut Reader) -> Result<Self, DecodeError> {
        let configs = ConfigsBody::decode(r, 0)?.configs.into();
        Ok(Self { request: Body::get(r)?, configs })
    }
}

/// The client's request is sent in the client's version: fields of older versions mean other things.
impl Body for UpdateFeatures {
    fn put(&self, w: &mut Writer) -> Result<(), EncodeError> {
        VersionBody { version: self.version }.encode(w, 0)?;
        self.request.encode(w, self.version)
    }

    fn get(r: &mut Reader) -> Result<Self, DecodeError> {
        let version = VersionBody::decode(r, 0)?.version;
        Ok(Self { request: UpdateFeaturesRequest::decode(r, version)?, version })
    }
}
