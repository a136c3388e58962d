//! What every coordinator is: a state machine over one partition of an internal topic.
//!
//! A request goes in with `now`, and out come [`Effects`]: records to append, answers, and what changes in memory alone. The
//! shell appends the records, then applies the decision, and gives the answers that depend on it once it is committed; the state
//! is whatever replay of the partition would give, plus what is only in memory (sessions, parked requests). One runtime in the
//! broker drives all of them; see there for its locks.
//!
//! A request is decided on a shared reference: [`StateMachine::apply`] is the only way in which a decision changes the state. So a
//! decision whose records could not be written leaves no trace.
//!
//! Must never: do I/O, read a clock, or keep something in memory that a new leader would need and no record holds.

use bytes::Bytes;
use esker_protocol::error::ErrorCode;
use esker_protocol::primitives::{DecodeError, EncodeError, Str};

/// Names a request that is parked; chosen by the shell.
pub type Token = u64;

/// The producer in whose transaction records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Writer {
    /// Producer id.
    pub producer_id: i64,
    /// Producer epoch.
    pub producer_epoch: i16,
}

/// The plainest event: the group or transactional id that it concerns, and why it happened.
pub type NamedEvent = (Str, &'static str);

/// What a request (or time) leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Effects<Record, Reply, Stored, Action, Update, Event = NamedEvent> {
    /// To be appended as one batch, in order, and applied.
    pub records: Vec<Record>,
    /// The records are independent: they may be appended as several batches, and a failure leaves those before it in force.
    pub divisible: bool,
    /// What changes beside the records, and is in force with them.
    pub update: Update,
    /// The transaction that the records belong to, if any: they count when it is committed.
    pub writer: Option<Writer>,
    /// Answers to be given at once.
    pub replies: Vec<(Token, Reply)>,
    /// Answers to be given when everything that is written so far, `records` among it, is committed. If the commit fails,
    /// the waiting request is answered with the error instead.
    pub on_commit: Vec<(Token, Reply)>,
    /// Passed to [`StateMachine::committed`] when the records are committed, or when their commit failed.
    pub stored: Option<Stored>,
    /// For the shell to carry out once the records are committed; dropped if they are not.
    pub actions: Vec<Action>,
    /// Events for logs and metrics; void if the records could not be written.
    pub events: Vec<Event>,
}

impl<Record, Reply, Stored, Action, Update: Default, Event> Default
    for Effects<Record, Reply, Stored, Action, Update, Event>
{
    fn default() -> Self {
        Self {
            records: Vec::new(),
            divisible: false,
            update: Update::default(),
            writer: None,
            replies: Vec::new(),
            on_commit: Vec::new(),
            stored: None,
            actions: Vec::new(),
            events: Vec::new(),
        }
    }
}

/// The effects of a state machine.
pub type EffectsOf<M> = Effects<
    <M as StateMachine>::Record,
    <M as StateMachine>::Reply,
    <M as StateMachine>::Stored,
    <M as StateMachine>::Action,
    <M as StateMachine>::Update,
    <M as StateMachine>::Event,
>;

/// What of a decision is in force now.
pub struct Applied<'a, M: StateMachine> {
    /// Records that are written.
    pub records: &'a [M::Record],
    /// The transaction that they belong to, if any.
    pub writer: Option<Writer>,
    /// What changes beside them.
    pub update: M::Update,
    /// Events for logs and metrics.
    pub events: &'a [M::Event],
}

impl<'a, M: StateMachine> Applied<'a, M> {
    /// The whole of a decision.
    pub fn all(effects: &'a mut EffectsOf<M>) -> Self {
        let update = std::mem::take(&mut effects.update);
        Self { records: &effects.records, writer: effects.writer, update, events: &effects.events }
    }

    /// Some of the records of a divisible decision, ahead of the rest.
    pub fn some(records: &'a [M::Record], writer: Option<Writer>) -> Self {
        Self { records, writer, update: M::Update::default(), events: &[] }
    }
}

/// One partition's coordinator. Requests are methods of the machine itself; this is what the runtime needs beside them.
pub trait StateMachine: Sized + Send + 'static {
    /// What is written.
    type Record: Send;
    /// An answer to a parked request.
    type Reply: Send;
    /// The argument of [`StateMachine::committed`].
    type Stored: Send;
    /// What the shell does for it.
    type Action: Send;
    /// What a decision changes beside its records.
    type Update: Default + Send;

    /// An event for logs and metrics.
    type Event: Send;

    /// Key and value as they are written.
    fn encode(record: &Self::Record) -> Result<(Bytes, Option<Bytes>), EncodeError>;

    /// Takes one record of the log while loading, in the order of the log. With a `writer` it counts from that producer's
    /// commit marker on.
    fn replay(&mut self, key: Bytes, value: Option<Bytes>, writer: Option<i64>, now: i64) -> Result<(), DecodeError>;

    /// A producer's transaction ended in this partition: found while loading, or just written.
    fn transaction_ended(&mut self, _producer_id: i64, _committed: bool, _now: i64) {}

    /// Loading is over.
    fn loaded(&mut self, now: i64) -> EffectsOf<Self>;

    /// A decision is written (or has no records): its records, its update and its events are in force. The only mutation.
    fn apply(&mut self, decision: Applied<'_, Self>);

    /// When [`StateMachine::tick`] must be called next.
    fn next_deadline(&self) -> Option<i64>;

    /// Time has passed: what is due first. Decisions that are due later are made by the next call.
    fn tick(&self, now: i64) -> EffectsOf<Self>;

    /// The decision that is due first could not be written: it is due again at `until`, and holds up nothing else.
    fn postpone(&mut self, until: i64);

    /// The records that came with `stored` are committed, or (`Err`) were not.
    fn committed(&self, _stored: Self::Stored, _outcome: Result<(), ErrorCode>, _now: i64) -> EffectsOf<Self> {
        Effects::default()
    }

    /// Leadership is gone: replies to the requests that are still parked. A request without a reply here is answered with the error.
    fn abandon(&mut self, _error: ErrorCode) -> Vec<(Token, Self::Reply)> {
        Vec::new()
    }
}
