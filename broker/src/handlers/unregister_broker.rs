//! UnregisterBroker (64, KIP-500): a broker leaves the cluster for good, and its node id may be given to another metadata folder.

use std::ops::RangeInclusive;

use esker_core::controller;
use esker_protocol::messages::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use futures_util::FutureExt;

use super::handler::{Handler, RequestContext, Staged};
use super::timeout::DEFAULT_TIMEOUT;
use crate::error::KafkaError;

/// The UnregisterBroker API.
pub struct UnregisterBroker;

impl Handler for UnregisterBroker {
    type Request = UnregisterBrokerRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(ctx: RequestContext, request: UnregisterBrokerRequest) -> Staged<UnregisterBrokerResponse> {
        Staged::Later(
            async move {
                let configs = ctx.broker.node_configs();
                let ask = controller::UnregisterBroker { node_id: request.broker_id, configs };
                let (error_code, error_message) = match ctx.broker.change(DEFAULT_TIMEOUT, ask).await {
                    Ok(Ok(())) => Default::default(),
                    Ok(Err(refusal)) => (refusal.code, Some(refusal.message)),
                    Err(error) => (error.code(), Some(error.to_string().into())),
                };
                UnregisterBrokerResponse { error_code, error_message, ..UnregisterBrokerResponse::default() }
            }
            .boxed(),
        )
    }
}
