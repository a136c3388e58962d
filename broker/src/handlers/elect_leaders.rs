//! ElectLeaders (43, KIP-183, KIP-460): the answer comes when the new leaders are known here.

use std::ops::RangeInclusive;

use esker_core::controller;
use esker_protocol::messages::elect_leaders::{ElectLeadersRequest, ElectLeadersResponse};
use futures_util::FutureExt;

use super::{Handler, RequestContext, Staged};
use crate::broker::Broker;

/// The ElectLeaders API.
pub struct ElectLeaders;

impl Handler for ElectLeaders {
    type Request = ElectLeadersRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn handle(ctx: RequestContext, request: ElectLeadersRequest) -> Staged<ElectLeadersResponse> {
        Staged::Later(
            async move {
                let broker = &ctx.broker;
                match broker.metadata.submit(move |image| controller::elect_leaders(image, &request)).await {
                    Ok(committed) => {
                        broker.replicas.wait_applied(committed.offset).await;
                        committed.reply
                    }
                    Err(error) => {
                        ElectLeadersResponse { error_code: Broker::submit_error(&error), ..Default::default() }
                    }
                }
            }
            .boxed(),
        )
    }
}
