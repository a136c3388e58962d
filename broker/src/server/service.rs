//! What a listener serves: the seam between connections, which know frames and order, and handlers, which know requests.
//!
//! A connection hands each request to its [`Service`] in the order in which they came in, and keeps the place of the answer. Must never:
//! know an API.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use esker_protocol::RequestHeader;
use esker_protocol::primitives::{Reader, Str};
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::answers::Reply;
use super::close::CloseReason;
use crate::telemetry::{Arrival, CountedSoftware};

/// What is known of a connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// The other end.
    pub peer: SocketAddr,
    /// The name of the listener it came in on, e.g. `PLAINTEXT`.
    pub listener: Str,
    /// Name and version of the client's software, once ApiVersions has sent them (KIP-511).
    pub software: OnceLock<(Str, Str)>,
    /// Its place among the connections that are counted by software.
    counted: OnceLock<CountedSoftware>,
    /// Who the other end has proved to be, if the service asks for a proof.
    identity: OnceLock<Box<dyn Any + Send + Sync>>,
    proved: Notify,
}

impl ConnectionInfo {
    /// A connection of which nothing else is known.
    pub fn new(peer: SocketAddr, listener: Str) -> Self {
        Self {
            peer,
            listener,
            software: OnceLock::new(),
            counted: OnceLock::new(),
            identity: OnceLock::new(),
            proved: Notify::new(),
        }
    }

    /// The client says what its software is. What it says first stands: `true` is returned for it alone.
    pub fn set_software(&self, name: Str, version: Str) -> bool {
        self.software.set((name, version)).is_ok()
    }

    /// The connection is counted under its software until it ends.
    pub fn set_counted(&self, counted: CountedSoftware) {
        let _ = self.counted.set(counted);
    }

    /// The other end has proved who it is. The first proof stands.
    pub fn identify<T: Send + Sync + 'static>(&self, identity: T) {
        let _ = self.identity.set(Box::new(identity));
        self.proved.notify_one();
    }

    /// Whether the other end has proved who it is.
    pub(super) fn is_proven(&self) -> bool {
        self.identity.get().is_some()
    }

    /// Ready once the other end has proved who it is; for one waiter.
    pub(super) async fn proof(&self) {
        while !self.is_proven() {
            self.proved.notified().await;
        }
    }

    /// Who the other end has proved to be.
    pub fn identity<T: 'static>(&self) -> Option<&T> {
        self.identity.get()?.downcast_ref()
    }
}

/// A request whose header is decoded.
#[derive(Debug)]
pub struct Incoming {
    /// Its header.
    pub header: RequestHeader,
    /// Where it came in.
    pub connection: Arc<ConnectionInfo>,
    /// When it came.
    pub arrival: Arrival,
}

/// What stage one of a request leaves.
pub enum Outcome {
    /// The answer.
    Ready(Reply),
    /// The answer will come.
    Later(BoxFuture<'static, Reply>),
    /// As `Later`, of a request whose frame is no longer in memory: only so many bytes are accounted until the answer is there.
    Parked(usize, BoxFuture<'static, Reply>),
    /// The outcome is known later, and no other request of the connection begins before.
    Held(BoxFuture<'static, Outcome>),
    /// The request is none that can be answered.
    Refused(CloseReason),
}

/// Serves requests.
pub trait Service: Send + Sync + 'static {
    /// Runs stage one of a request; `body` begins behind its header. Runs in request order on the connection's task and must not block.
    fn dispatch(&self, incoming: Incoming, body: &mut Reader) -> Outcome;
}
