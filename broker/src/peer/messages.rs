//! What nodes of a cluster say to each other: private APIs on the listener that brokers share with clients, in Kafka's framing.
//!
//! Each message is versioned. A node serves one range of versions a message, like any API; [`HelloRequest`] names the range of its
//! sender, so that a node that is too old or too new is refused by name before anything else is said.

use bytes::Bytes;
use esker_protocol::Message;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::describe_quorum::FailOver;
use esker_protocol::primitives::{Str, Uuid};

/// The first key of the private APIs; no key of Kafka's is above it.
pub const FIRST_KEY: i16 = 32000;

/// The version of the messages between nodes as a whole. A node refuses one whose range does not have it.
pub const PEER_VERSION: i16 = 1;

/// Who is there? The only request besides [`JoinClusterRequest`] that needs no [`HelloRequest`] before it.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 32000, kind = "request", versions = "0", flexible = "0+", response = IdentifyResponse)]
pub struct IdentifyRequest {
    /// The sender's metadata folder; zero where it has none yet.
    pub directory: Uuid,
}

/// Who the node is.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct IdentifyResponse {
    /// The cluster that it is in; `None`: it is in none.
    #[field(nullable = "0+")]
    pub cluster_id: Option<Str>,
    /// Its node id, -1 if it has none yet.
    pub node_id: i32,
    /// Its metadata folder.
    pub directory: Uuid,
    /// Changes with each start.
    pub incarnation: Uuid,
    /// The addresses that it was told to join.
    pub join: Vec<Str>,
    /// How often the metadata quorum was recovered by hand, as far as the node's log says; -1 if it has none.
    #[field(tag = 0, tagged = "0+", default = -1)]
    pub recovery: i64,
}

/// Begins a connection between two nodes of one cluster: each side proves to be who the other believes it is.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 32001, kind = "request", versions = "0", flexible = "0+", response = HelloResponse)]
pub struct HelloRequest {
    /// The oldest version of these messages that the sender speaks.
    pub min_version: i16,
    /// The newest.
    pub max_version: i16,
    /// The sender's cluster.
    pub cluster_id: Str,
    /// The sender.
    pub node_id: i32,
    /// The sender's metadata folder.
    pub directory: Uuid,
    /// Changes with each start of the sender.
    pub incarnation: Uuid,
    /// Whom the sender means to reach.
    pub target_node_id: i32,
    /// The folder of that node; zero: any.
    pub target_directory: Uuid,
}

/// As [`HelloRequest`], of a connection that carries records: it is served beside those of clients.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 32002, kind = "request", versions = "0", flexible = "0+", response = HelloResponse)]
pub struct HelloDataRequest {
    /// The same.
    pub hello: HelloRequest,
}

/// The receiver.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct HelloResponse {
    /// Why the connection is refused.
    pub error_code: ErrorCode,
    /// In words.
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
    /// The receiver's metadata folder.
    pub directory: Uuid,
    /// Changes with each start of the receiver.
    pub incarnation: Uuid,
}

/// A request to the active controller (`esker_core::controller::wire`).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 32003, kind = "request", versions = "0", flexible = "0+", response = SubmitResponse)]
pub struct SubmitRequest {
    /// How long the sender waits for the answer.
    pub timeout_ms: i32,
    /// The encoded request.
    pub request: Bytes,
    /// The trace that the request is part of, as in a `traceparent` header (W3C); empty for none.
    #[field(tag = 0, tagged = "0+")]
    pub traceparent: Str,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct SubmitResponse {
    /// 0: decided; else see `controller::forward`.
    pub outcome: i8,
    /// In words.
    #[field(nullable = "0+")]
    pub message: Option<Str>,
    /// The active controller as the receiver knows it, -1 if it knows none.
    #[field(default = -1)]
    pub controller: i32,
    /// An image at least this new has what was decided.
    pub offset: i64,
    /// There were records.
    pub changed: bool,
    /// The encoded answer.
    pub reply: Bytes,
}

/// A broker says to the active controller that it is alive.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 32004, kind = "request", versions = "0", flexible = "0+", response = HeartbeatResponse)]
pub struct HeartbeatRequest {
    /// The broker.
    pub node_id: i32,
    /// The epoch of its registration.
    pub epoch: i64,
    /// How many entries of the metadata log it has in force.
    pub applied: i64,
}

/// What the controller knows of the broker.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct HeartbeatResponse {
    /// NOT_CONTROLLER, STALE_BROKER_EPOCH.
    pub error_code: ErrorCode,
    /// The active controller as the receiver knows it, -1 if it knows none.
    #[field(default = -1)]
    pub controller: i32,
    /// It may not lead.
    pub fenced: bool,
    /// How many entries of the metadata log the receiver has in force: how far behind the broker is.
    #[field(tag = 0, tagged = "0+")]
    pub offset: i64,
}

/// A node that is in no cluster asks for a place in this one: for an id, and to follow the metadata log.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 32005, kind = "request", versions = "0", flexible = "0+", response = JoinClusterResponse)]
pub struct JoinClusterRequest {
    /// The newest version of these messages that it speaks.
    pub max_version: i16,
    /// The id that it wants, -1 for any.
    #[field(default = -1)]
    pub node_id: i32,
    /// Its metadata folder.
    pub directory: Uuid,
    /// Where other nodes reach it; empty while it only asks for an id.
    pub address: Str,
    /// It pulls the metadata log. A node of an earlier build does not, and becomes a member of the quorum without a vote.
    #[field(tag = 0, tagged = "0+")]
    pub pulls: bool,
}

/// Its place.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct JoinClusterResponse {
    /// Why not.
    pub error_code: ErrorCode,
    /// In words.
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
    /// The active controller's address, if another node is it: ask there.
    #[field(nullable = "0+")]
    pub controller: Option<Str>,
    /// The cluster.
    pub cluster_id: Str,
    /// The id that it has from now on.
    pub node_id: i32,
    /// It is whole when its metadata has this many entries.
    pub offset: i64,
}

/// A change of the voters of the metadata quorum on command, at the active controller.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 32006, kind = "request", versions = "0", flexible = "0+", response = ChangeVoterResponse)]
pub struct ChangeVoterRequest {
    /// How long the sender waits for the answer.
    pub timeout_ms: i32,
    /// The voter is added; else it is removed.
    pub adds: bool,
    /// The voter.
    pub node_id: i32,
    /// Its metadata folder.
    pub directory: Uuid,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct ChangeVoterResponse {
    /// NOT_CONTROLLER, or the code for the client.
    pub error_code: ErrorCode,
    /// In words.
    #[field(nullable = "0+")]
    pub error_message: Option<Str>,
}

/// Asks the leader of the metadata quorum for its members: it alone knows how far they are.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 32007, kind = "request", versions = "0", flexible = "0+", response = DescribeMembersResponse)]
pub struct DescribeMembersRequest {}

/// The quorum, and its observers, as its leader knows them.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct DescribeMembersResponse {
    /// NOT_CONTROLLER: the receiver does not lead.
    pub error_code: ErrorCode,
    /// The leader, -1 if none is known.
    #[field(default = -1)]
    pub leader: i32,
    /// The term.
    pub term: i64,
    /// Entries that are committed.
    pub high_watermark: i64,
    /// All members and observers.
    pub members: Vec<DescribedMember>,
    /// The last fail-over that the leader has carried out since its start; none, or one.
    #[field(tag = 0, tagged = "0+")]
    pub last_fail_over: Vec<FailOver>,
}

/// A member of the quorum, or an observer.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribedMember {
    /// Its node id.
    pub node_id: i32,
    /// Its metadata folder.
    pub directory: Uuid,
    /// It votes.
    pub votes: bool,
    /// Entries that it has, -1 if that is not known.
    #[field(default = -1)]
    pub log_end: i64,
    /// When it last answered the leader, or pulled from it, in ms by the leader's clock; -1 if that is not known.
    #[field(default = -1)]
    pub last_contact_ms: i64,
    /// When it last had all entries, in the same way.
    #[field(default = -1)]
    pub last_caught_up_ms: i64,
}
