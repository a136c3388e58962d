//! Request and response headers, and whole frames.

use bytes::Bytes;

use crate::api::ApiKey;
use crate::primitives::{Chunks, DecodeError, EncodeError, Reader, Str, Writer};
use crate::{Message, Request};

/// The header of a request. The client id is never compact, in no version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API.
    pub api_key: ApiKey,
    /// In which version.
    pub api_version: i16,
    /// Comes back in the answer.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Option<Str>,
}

impl RequestHeader {
    /// Reads the header; what follows in `r` is the body. An API or version that is not known is read as if it were not
    /// flexible.
    pub fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        let header = Self {
            api_key: ApiKey(r.i16()?),
            api_version: r.i16()?,
            correlation_id: r.i32()?,
            client_id: r.nullable_string()?,
        };
        if header.api_key.request_header_version(header.api_version) == 2 {
            r.skip_tags()?;
        }
        Ok(header)
    }

    /// Writes the header.
    pub fn encode(&self, w: &mut Writer) -> Result<(), EncodeError> {
        w.put_i16(self.api_key.0);
        w.put_i16(self.api_version);
        w.put_i32(self.correlation_id);
        w.put_nullable_string(self.client_id.as_ref())?;
        if self.api_key.request_header_version(self.api_version) == 2 {
            w.put_uvarint(0);
        }
        Ok(())
    }
}

/// A request as it goes over the wire, with the length in front.
pub fn encode_request<R: Request>(
    version: i16,
    correlation_id: i32,
    client_id: Option<Str>,
    request: &R,
) -> Result<Chunks, EncodeError> {
    let mut w = Writer::framed();
    RequestHeader { api_key: R::KEY, api_version: version, correlation_id, client_id }.encode(&mut w)?;
    request.encode(&mut w, version)?;
    w.finish_framed()
}

/// An answer as it goes over the wire, with the length in front.
pub fn encode_response<M: Message>(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &M,
) -> Result<Chunks, EncodeError> {
    let mut w = Writer::framed();
    w.put_i32(correlation_id);
    if key.response_header_version(version) == 1 {
        w.put_uvarint(0);
    }
    response.encode(&mut w, version)?;
    w.finish_framed()
}

/// Reads an answer's frame (without its length): correlation id and body.
pub fn decode_response<R: Request>(version: i16, frame: Bytes) -> Result<(i32, R::Response), DecodeError> {
    let mut r = Reader::new(frame);
    let correlation_id = r.i32()?;
    if R::KEY.response_header_version(version) == 1 {
        r.skip_tags()?;
    }
    Ok((correlation_id, R::Response::decode(&mut r, version)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};

    #[test]
    fn a_request_and_its_answer() {
        let request = ApiVersionsRequest { client_software_name: "test".into(), ..ApiVersionsRequest::default() };
        let frame = encode_request(3, 7, Some("me".into()), &request).unwrap().into_bytes();
        assert_eq!(frame[..4], (frame.len() as i32 - 4).to_be_bytes());
        let mut r = Reader::new(frame.slice(4..));
        let header = RequestHeader::decode(&mut r).unwrap();
        assert_eq!((header.api_key, header.api_version, header.correlation_id), (ApiKey::API_VERSIONS, 3, 7));
        assert_eq!(header.client_id.as_deref(), Some("me"));
        assert_eq!(ApiVersionsRequest::decode(&mut r, 3).unwrap(), request);

        let answer = ApiVersionsResponse::default();
        let frame = encode_response(ApiKey::API_VERSIONS, 3, 7, &answer).unwrap().into_bytes();
        let decoded = decode_response::<ApiVersionsRequest>(3, frame.slice(4..)).unwrap();
        assert_eq!(decoded, (7, answer));
    }
}
