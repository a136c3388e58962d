//! DescribeUserScramCredentials (50) and AlterUserScramCredentials (51), both KIP-554. No credentials are kept: the first finds
//! none, the second refuses to store one.

use std::ops::RangeInclusive;

use esker_core::controller;
use esker_protocol::messages::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse,
};
use esker_protocol::messages::describe_user_scram_credentials::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
};
use esker_protocol::primitives::Str;

use super::handler::{Handler, RequestContext, Staged};

/// The DescribeUserScramCredentials API.
pub struct DescribeUserScramCredentials;

impl Handler for DescribeUserScramCredentials {
    type Request = DescribeUserScramCredentialsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(
        _: RequestContext,
        request: DescribeUserScramCredentialsRequest,
    ) -> Staged<DescribeUserScramCredentialsResponse> {
        Staged::Ready(DescribeUserScramCredentialsResponse {
            // Kafka leaves it empty rather than null.
            error_message: Some(Str::default()),
            results: controller::describe_scram_credentials(&request),
            ..DescribeUserScramCredentialsResponse::default()
        })
    }
}

/// The AlterUserScramCredentials API.
pub struct AlterUserScramCredentials;

impl Handler for AlterUserScramCredentials {
    type Request = AlterUserScramCredentialsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(
        _: RequestContext,
        request: AlterUserScramCredentialsRequest,
    ) -> Staged<AlterUserScramCredentialsResponse> {
        let results = controller::alter_scram_credentials(&request);
        Staged::Ready(AlterUserScramCredentialsResponse { results, ..AlterUserScramCredentialsResponse::default() })
    }
}
