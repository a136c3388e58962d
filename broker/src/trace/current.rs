//! The span that the running task works for: a request to another node that it causes becomes part of the same trace.
//!
//! The span belongs to the task, because the ways to other nodes lie behind traits that know nothing of traces. A task that works for many
//! requests (a batch, a flush) has none: the causes go with its items. Must never: keep a span from ending.

use std::sync::{Arc, Weak};

use esker_core::trace::TraceContext;

use super::tracer::Span;

tokio::task_local! {
    static CURRENT: Weak<Span>;
}

/// Polls `future` with `span` as the current one.
pub fn with_current<F: Future>(span: &Arc<Span>, future: F) -> impl Future<Output = F::Output> + use<F> {
    CURRENT.scope(Arc::downgrade(span), future)
}

/// Runs `work` with `span` as the current one.
pub fn run_with_current<T>(span: &Arc<Span>, work: impl FnOnce() -> T) -> T {
    CURRENT.sync_scope(Arc::downgrade(span), work)
}

/// The position of the current span in its trace; `None` outside of a traced request.
pub fn current_context() -> Option<TraceContext> {
    let span = CURRENT.try_with(Weak::upgrade).ok().flatten()?;
    Some(span.context())
}

#[cfg(test)]
mod tests {
    use esker_core::trace::SampleRatio;
    use tokio::time::Instant;

    use super::super::{SpanKind, Tracer};
    use super::*;

    #[tokio::test]
    async fn a_task_knows_its_span_until_that_ends() {
        let tracer = Arc::new(Tracer::new(SampleRatio::new(1.0), 7));
        let span = Arc::new(tracer.begin_span(None, "x", SpanKind::Server, Instant::now()));
        let context = Some(span.context());
        assert_eq!(current_context(), None);
        assert_eq!(run_with_current(&span, current_context), context);
        let spawned = with_current(&span, async { tokio::spawn(async { current_context() }).await.unwrap() });
        assert_eq!(spawned.await, None, "another task's work may be for many requests");
        let holder = Arc::clone(&span);
        let ended = with_current(&span, async move {
            let before = current_context();
            drop(holder);
            (before, current_context())
        });
        drop(span);
        assert_eq!(ended.await, (context, None));
    }
}
