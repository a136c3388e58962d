//! A member of a classic group.

use bytes::Bytes;
use esker_protocol::primitives::Str;

use crate::coordinator::Token;

/// One protocol (assignor) that a member offers, with its metadata for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// E.g. `range`.
    pub name: Str,
    /// Opaque to the coordinator.
    pub metadata: Bytes,
}

/// One member.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Member id.
    pub id: Str,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance_id: Option<Str>,
    /// The client's name for itself.
    pub client_id: Str,
    /// Where it connects from.
    pub client_host: Str,
    /// How long it may take to rejoin, in ms.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent, in ms.
    pub session_timeout_ms: i32,
    /// What it offers, in order of preference.
    pub protocols: Vec<Protocol>,
    /// What it was assigned.
    pub assignment: Bytes,
    /// When it counts as gone.
    pub session_deadline: i64,
    /// It has joined and not seen a generation yet.
    pub is_new: bool,
    /// A join that waits.
    pub join: Option<Token>,
    /// A sync that waits.
    pub sync: Option<Token>,
}

impl Member {
    /// Its metadata for a protocol.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|p| p.name == *protocol).map(|p| p.metadata.clone()).unwrap_or_default()
    }

    /// It was heard of.
    pub fn refresh(&mut self, now: i64) {
        self.session_deadline = self.session_from(now);
    }

    /// When it counts as gone if it is not heard of again.
    pub(super) fn session_from(&self, now: i64) -> i64 {
        now.saturating_add(i64::from(self.session_timeout_ms))
    }
}
