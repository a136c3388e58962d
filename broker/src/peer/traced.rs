//! Requests to other nodes that carry the trace that caused them, so that the receiver's work is part of it.
//!
//! The position in the trace is a tagged field in the form of a `traceparent` header: a node of an earlier build skips it, and a request without a
//! trace has the same bytes as before. Must never: begin a trace.

use esker_core::trace::TraceContext;
use esker_core::transaction::wire::{AddPartitionsRequest, WriteMarkersRequest};
use esker_protocol::Request;
use esker_protocol::primitives::Str;

use super::messages::SubmitRequest;

/// A request that has a `traceparent` field.
pub trait TracedRequest: Request {
    /// The field.
    fn traceparent(&self) -> &Str;

    /// The field, to be set.
    fn traceparent_mut(&mut self) -> &mut Str;

    /// The sampled trace that the request is part of.
    fn trace_context(&self) -> Option<TraceContext> {
        TraceContext::parse(self.traceparent().as_bytes()).filter(|context| context.sampled)
    }
}

macro_rules! traced {
    ($($request:ty,)*) => {$(
        impl TracedRequest for $request {
            fn traceparent(&self) -> &Str {
                &self.traceparent
            }

            fn traceparent_mut(&mut self) -> &mut Str {
                &mut self.traceparent
            }
        }
    )*};
}

traced! {
    SubmitRequest,
    WriteMarkersRequest,
    AddPartitionsRequest,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use esker_protocol::Message;
    use esker_protocol::primitives::{Reader, Writer};

    use super::*;

    /// [`SubmitRequest`] as builds before the field know it.
    #[derive(Debug, Clone, PartialEq, Message)]
    #[message(versions = "0", flexible = "0+")]
    struct EarlierSubmitRequest {
        timeout_ms: i32,
        request: Bytes,
    }

    fn encode(message: &impl Message) -> Bytes {
        let mut writer = Writer::new();
        message.encode(&mut writer, 0).unwrap();
        writer.finish().into_bytes()
    }

    #[test]
    fn an_earlier_build_reads_the_request_without_its_trace() {
        let earlier = EarlierSubmitRequest { timeout_ms: 7, request: Bytes::from_static(b"r") };
        let mut request = SubmitRequest { timeout_ms: 7, request: Bytes::from_static(b"r"), ..Default::default() };
        assert_eq!(encode(&request), encode(&earlier), "no byte more without a trace");
        let context = TraceContext { trace_id: 5, span_id: 6, sampled: true };
        *request.traceparent_mut() = Str::from(context.to_string());
        let bytes = encode(&request);
        assert_eq!(EarlierSubmitRequest::decode(&mut Reader::new(bytes.clone()), 0).unwrap(), earlier);
        let received = SubmitRequest::decode(&mut Reader::new(bytes), 0).unwrap();
        assert_eq!((received.trace_context(), &received), (Some(context), &request));
        let received = SubmitRequest::decode(&mut Reader::new(encode(&earlier)), 0).unwrap();
        assert_eq!(received.trace_context(), None);
        *request.traceparent_mut() = "no traceparent".into();
        assert_eq!(request.trace_context(), None);
    }
}
