//! Client metrics (KIP-714): which clients a broker wants metrics of, when it accepts them, and what it keeps of them.
//!
//! [`Subscriptions`] are read off the configs of client-metrics resources. [`ClientInstances`] decides about each request of a client.
//! [`ClientSeries`] holds the newest values that clients pushed. All three are bounded, whatever clients send.

mod instances;
mod matching;
mod series;
#[cfg(test)]
mod tests;

pub use instances::{ClientInstances, PushRequest, Refusal, SubscriptionAnswer};
pub use matching::{ClientAttributes, MatchPattern, PatternError, Subscription, Subscriptions, parse_patterns};
pub use series::{ClientSeries, DropReason, Drops, Sample, SampleKind, SeriesRow};
