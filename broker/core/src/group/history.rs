//! Why groups rebalance: which member or topic caused it, from which generation (or epoch) to which, and when. The last rebalances
//! of each group are kept.
//!
//! A rebalance begins with one cause. Causes that follow while members still join lead to the same generation, so they
//! are kept with it. The history is in memory alone: earlier leaders of the partition logged what happened under them.
//!
//! Must never: keep more than its bounds, or a slice of a request's frame.

use std::collections::VecDeque;

use esker_protocol::primitives::Str;

use super::consumer::ConsumerMember;
use super::member::Member;

/// How many rebalances of a group are kept by default (`group.rebalance.history.size`).
pub const DEFAULT_HISTORY: usize = 32;
/// Causes that are kept of one rebalance; of further ones only how many.
const MOST_CAUSES: usize = 16;
/// Bytes that are kept of a text that a client chose.
const MOST_TEXT: usize = 256;

macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $name:literal,)*) => {
        /// Why a group rebalances.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $reason,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$reason,)*];

            /// Its name in logs, metrics and answers.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$reason => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// A member is new.
    MemberJoined = "member-joined",
    /// A member left.
    MemberLeft = "member-left",
    /// An administrator removed a member.
    AdminRemoved = "admin-removed",
    /// A member sent no heartbeat within its session time-out.
    SessionTimeout = "session-timeout",
    /// A member did not rejoin, or did not revoke partitions, within its rebalance time-out.
    RebalanceTimeout = "rebalance-timeout",
    /// A member joined and did not sync in time.
    SyncTimeout = "sync-timeout",
    /// A member subscribes to other topics.
    SubscriptionChanged = "subscription-changed",
    /// The metadata of a member of a classic group changed: with a cooperative assignor, when the member has revoked partitions.
    MetadataChanged = "metadata-changed",
    /// A regular expression that a member subscribes with matches other topics.
    RegexChanged = "regex-changed",
    /// The group's choice of an assignor is another, or (classic) a member offers others.
    AssignorChanged = "assignor-changed",
    /// The leader of a classic group joined again: its client saw topics change, or the application requested a rebalance.
    LeaderRejoined = "leader-rejoined",
    /// A static member came back, and its assignment may change.
    StaticMemberReplaced = "static-member-replaced",
    /// A topic that the group subscribes to was created.
    TopicCreated = "topic-created",
    /// A topic that the group subscribes to was deleted.
    TopicDeleted = "topic-deleted",
    /// A topic that the group subscribes to has more partitions.
    PartitionsAdded = "partitions-added",
    /// Topics are not what they were when the group last looked, before this broker coordinated it.
    TopicsChanged = "topics-changed",
    /// A classic group became a consumer group.
    Upgraded = "upgraded",
    /// A consumer group became a classic group.
    Downgraded = "downgraded",
}

/// The facts about a member that identify its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    /// Member id.
    pub member_id: Str,
    /// `group.instance.id`.
    pub instance_id: Option<Str>,
    /// The client's name for itself.
    pub client_id: Str,
    /// Where it connects from.
    pub client_host: Str,
}

impl From<&Member> for MemberInfo {
    fn from(member: &Member) -> Self {
        Self {
            member_id: truncate_text(&member.id),
            instance_id: member.instance_id.as_ref().map(truncate_text),
            client_id: truncate_text(&member.client_id),
            client_host: truncate_text(&member.client_host),
        }
    }
}

impl From<&ConsumerMember> for MemberInfo {
    fn from(member: &ConsumerMember) -> Self {
        Self {
            member_id: truncate_text(&member.id),
            instance_id: member.instance_id.as_ref().map(truncate_text),
            client_id: truncate_text(&member.client_id),
            client_host: truncate_text(&member.client_host),
        }
    }
}

/// A copy of the first of a text.
fn truncate_text(text: &Str) -> Str {
    let mut end = text.len().min(MOST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Str::copy(text.get(..end).unwrap_or_default())
}

/// One cause of a rebalance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Why.
    pub reason: Reason,
    /// The member that caused it, if one did.
    pub member: Option<MemberInfo>,
    /// The topic that caused it, if one did.
    pub topic: Option<Str>,
    /// The reason that the client sent, if any.
    pub client_reason: Option<Str>,
}

impl Cause {
    /// A cause that comes from no member and no topic.
    pub fn new(reason: Reason) -> Self {
        Self { reason, member: None, topic: None, client_reason: None }
    }

    /// A cause that comes from a member.
    pub fn of_member(reason: Reason, member: impl Into<MemberInfo>) -> Self {
        Self { member: Some(member.into()), ..Self::new(reason) }
    }

    /// A cause that comes from a topic.
    pub fn of_topic(reason: Reason, topic: &Str) -> Self {
        Self { topic: Some(truncate_text(topic)), ..Self::new(reason) }
    }

    /// Adds the reason that the client sent.
    pub fn with_client_reason(self, client_reason: Option<&Str>) -> Self {
        Self {
            client_reason: client_reason.filter(|client_reason| !client_reason.is_empty()).map(truncate_text),
            ..self
        }
    }
}

/// How members leave: why, and the reason that the request gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaving {
    /// Member id; an administrator may name a static member by its instance id alone.
    pub member_id: Str,
    /// `group.instance.id`.
    pub instance_id: Option<Str>,
    /// v5+: the reason that the client sent.
    pub client_reason: Option<Str>,
}

/// The reason that Kafka's admin client sends when it removes members.
const REASON_OF_ADMIN: &str = "member was removed by an admin";

impl Leaving {
    /// Whether the member leaves or an administrator removes it. A member always sends its own id.
    pub(super) fn reason(&self) -> Reason {
        let admin = self.member_id.is_empty()
            || self.client_reason.as_ref().is_some_and(|client_reason| client_reason.starts_with(REASON_OF_ADMIN));
        if admin { Reason::AdminRemoved } else { Reason::MemberLeft }
    }
}

/// Which protocol a group rebalances by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The classic one: generations.
    Classic,
    /// The one of KIP-848: epochs.
    Consumer,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

/// Something makes a group rebalance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupEvent {
    /// The group.
    pub group: Str,
    /// By which protocol.
    pub kind: Kind,
    /// The generation or epoch that the group leaves.
    pub from: i32,
    /// The one that it goes to.
    pub to: i32,
    /// When.
    pub at: i64,
    /// Whether the rebalance begins with this event; else the event belongs to a rebalance that is under way.
    pub begins: bool,
    /// Why.
    pub cause: Cause,
}

/// A rebalance with all that led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebalance {
    /// By which protocol.
    pub kind: Kind,
    /// The generation or epoch that the group left.
    pub from: i32,
    /// The one that it goes to.
    pub to: i32,
    /// What led to it, and when, in order.
    pub causes: Vec<(i64, Cause)>,
    /// Causes that there was no room for.
    pub more: u32,
}

/// The last rebalances of a group, oldest first.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Rebalance>);

impl History {
    /// The rebalances, oldest first.
    pub fn rebalances(&self) -> Vec<Rebalance> {
        self.0.iter().cloned().collect()
    }

    /// Keeps an event: with the rebalance that it belongs to, or as the newest of at most `size`.
    pub fn record_event(&mut self, event: &GroupEvent, size: usize) {
        let cause = (event.at, event.cause.clone());
        match self.0.back_mut().filter(|last| !event.begins && last.to == event.to) {
            Some(last) if last.causes.len() < MOST_CAUSES => last.causes.push(cause),
            Some(last) => last.more = last.more.saturating_add(1),
            None => {
                if self.0.len() >= size {
                    self.0.pop_front();
                }
                let GroupEvent { kind, from, to, .. } = *event;
                self.0.push_back(Rebalance { kind, from, to, causes: vec![cause], more: 0 });
            }
        }
    }
}
