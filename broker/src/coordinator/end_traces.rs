//! Traces of requests that end transactions, until the markers are written.
//!
//! Markers follow from records, which know nothing of traces: after a restart, or at another coordinator, they are written all the same. So the trace
//! waits here, by transactional id. Must never: hold more than a bounded number.

use std::collections::VecDeque;

use esker_core::trace::TraceContext;
use esker_protocol::primitives::Str;
use parking_lot::Mutex;

/// Ends whose markers are still to come; the oldest is forgotten for one more.
const MAX_ENDS: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct EndTraces(Mutex<VecDeque<(Str, TraceContext)>>);

impl EndTraces {
    /// The transaction of `id` ends by a request of this trace, or of none.
    pub(super) fn set(&self, id: &Str, cause: Option<TraceContext>) {
        let mut ends = self.0.lock();
        ends.retain(|(other, _)| other != id);
        if let Some(cause) = cause {
            if ends.len() >= MAX_ENDS {
                ends.pop_front();
            }
            ends.push_back((id.detached(), cause));
        }
    }

    /// The trace that ends the transaction of `id`.
    pub(super) fn take(&self, id: &Str) -> Option<TraceContext> {
        let mut ends = self.0.lock();
        let at = ends.iter().position(|(other, _)| other == id)?;
        ends.remove(at).map(|(_, cause)| cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_taken_once_and_the_oldest_goes_for_one_more() {
        let ends = EndTraces::default();
        let cause = |span_id| TraceContext { trace_id: 1, span_id, sampled: true };
        let id = |number: u64| Str::from(format!("id{number}"));
        for number in 0..=MAX_ENDS as u64 {
            ends.set(&id(number), Some(cause(number + 1)));
        }
        assert_eq!(ends.take(&id(0)), None);
        assert_eq!((ends.take(&id(1)), ends.take(&id(1))), (Some(cause(2)), None));
        ends.set(&id(2), Some(cause(9)));
        assert_eq!(ends.take(&id(2)), Some(cause(9)));
        ends.set(&id(3), None);
        assert_eq!(ends.take(&id(3)), None, "it ends by a request that is not traced");
        assert_eq!(ends.0.lock().len(), MAX_ENDS - 3);
    }
}
