//! APIs of a security that is not served: each version has an answer, and it is a refusal.

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, ScramCredentialUpsertion,
};
use esker_protocol::messages::create_acls::{AclCreation, CreateAclsRequest};
use esker_protocol::messages::create_delegation_token::CreateDelegationTokenRequest;
use esker_protocol::messages::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};
use esker_protocol::messages::describe_acls::DescribeAclsRequest;
use esker_protocol::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use esker_protocol::messages::describe_delegation_token::DescribeDelegationTokenRequest;
use esker_protocol::messages::describe_user_scram_credentials::{DescribeUserScramCredentialsRequest, UserName};
use esker_protocol::messages::expire_delegation_token::ExpireDelegationTokenRequest;
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::renew_delegation_token::RenewDelegationTokenRequest;
use esker_protocol::messages::sasl_authenticate::SaslAuthenticateRequest;
use esker_protocol::messages::sasl_handshake::SaslHandshakeRequest;

use super::Asker;
use crate::test_support::{Client, broker};

pub(super) async fn ask(a: &mut Asker) {
    a.ask(|_| SaslHandshakeRequest { mechanism: "PLAIN".into() }).await;
    a.ask(|_| SaslAuthenticateRequest::default()).await;
    a.ask(|_| DescribeAclsRequest::default()).await;
    a.ask(|_| CreateAclsRequest { creations: vec![AclCreation::default()] }).await;
    a.ask(|_| DeleteAclsRequest { filters: vec![DeleteAclsFilter::default()] }).await;
    a.ask(|v| {
        let owner = if v >= 3 { "owner" } else { "" };
        CreateDelegationTokenRequest {
            owner_principal_name: Some(owner.into()),
            ..CreateDelegationTokenRequest::default()
        }
    })
    .await;
    a.ask(|_| RenewDelegationTokenRequest::default()).await;
    a.ask(|_| ExpireDelegationTokenRequest::default()).await;
    a.ask(|_| DescribeDelegationTokenRequest { owners: None }).await;
    a.ask(|_| DescribeUserScramCredentialsRequest { users: Some(vec![UserName { name: "u".into() }]) }).await;
    a.ask(|_| AlterUserScramCredentialsRequest {
        upsertions: vec![ScramCredentialUpsertion { name: "u".into(), ..ScramCredentialUpsertion::default() }],
        ..AlterUserScramCredentialsRequest::default()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_security_that_is_not_served_is_granted() {
    let (running, _dir) = broker(&[]).await;
    let mut client = Client::to(&running).await;
    let handshake = client.ask(1, &SaslHandshakeRequest { mechanism: "PLAIN".into() }).await;
    assert_eq!((handshake.error_code, handshake.mechanisms.len()), (ErrorCode::ILLEGAL_SASL_STATE, 0));
    let authenticate = client.ask(2, &SaslAuthenticateRequest::default()).await;
    assert_eq!(authenticate.error_code, ErrorCode::ILLEGAL_SASL_STATE);
    let acls = client.ask(3, &DescribeAclsRequest::default()).await;
    assert_eq!(acls.error_code, ErrorCode::SECURITY_DISABLED);
    assert!(acls.error_message.is_some_and(|message| !message.is_empty()));
    let made = client.ask(3, &CreateAclsRequest { creations: vec![AclCreation::default(); 2] }).await;
    assert_eq!(made.results.iter().map(|r| r.error_code).collect::<Vec<_>>(), [ErrorCode::SECURITY_DISABLED; 2]);
    let gone = client.ask(3, &DeleteAclsRequest { filters: vec![DeleteAclsFilter::default()] }).await;
    assert_eq!(gone.filter_results[0].error_code, ErrorCode::SECURITY_DISABLED);
    let token = client.ask(3, &CreateDelegationTokenRequest::default()).await;
    assert_eq!(token.error_code, ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED);
    assert_eq!((&*token.principal_name, &*token.token_requester_principal_name), ("ANONYMOUS", "ANONYMOUS"));
    let users = client.ask(0, &DescribeUserScramCredentialsRequest { users: None }).await;
    assert_eq!((users.error_code, users.results.len()), (ErrorCode::NONE, 0));
    let upsertion = ScramCredentialUpsertion {
        name: "u".into(),
        mechanism: 1,
        iterations: 4096,
        ..ScramCredentialUpsertion::default()
    };
    let request = AlterUserScramCredentialsRequest { upsertions: vec![upsertion], ..Default::default() };
    let results = client.ask(0, &request).await.results;
    assert_eq!((results.len(), results[0].error_code), (1, ErrorCode::SECURITY_DISABLED));
    running.stop().await.unwrap();
}

/// A minimum above the number of replicas could never be met.
#[tokio::test(flavor = "multi_thread")]
async fn internal_topics_need_no_more_replicas_than_they_have() {
    let partitions = [("offsets.topic.num.partitions", "1"), ("transaction.state.log.num.partitions", "1")];
    let (running, _dir) = broker(&[&partitions[..], &[("min.insync.replicas", "2")]].concat()).await;
    let mut client = Client::to(&running).await;
    for (key_type, topic) in [(0, "__consumer_offsets"), (1, "__transaction_state")] {
        let find = FindCoordinatorRequest { key: "k".into(), key_type, ..FindCoordinatorRequest::default() };
        while client.ask(3, &find).await.error_code.is_error() {
            tokio::task::yield_now().await;
        }
        let resource = DescribeConfigsResource {
            resource_type: 2,
            resource_name: topic.into(),
            configuration_keys: Some(vec!["min.insync.replicas".into()]),
        };
        let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
        let described = client.ask(4, &request).await;
        assert_eq!(described.results[0].configs[0].value.as_deref(), Some("1"), "{topic}");
    }
    running.stop().await.unwrap();
}

/// A limit that a client sets must hold, not only be stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_connections_acts_at_run_time() {
    use esker_protocol::messages::incremental_alter_configs::{
        AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
    };
    let (running, _dir) = broker(&[]).await;
    let mut client = Client::to(&running).await;
    let config = AlterableConfig {
        name: "max.connections.per.ip".into(),
        value: Some("1".into()),
        ..AlterableConfig::default()
    };
    let resource = AlterConfigsResource { resource_type: 4, configs: vec![config], ..AlterConfigsResource::default() };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    assert_eq!(client.ask(1, &request).await.responses[0].error_code, ErrorCode::NONE);
    let mut second = Client::to(&running).await;
    second.send(0, 1, &esker_protocol::messages::api_versions::ApiVersionsRequest::default()).await;
    assert!(second.frame().await.is_none(), "one connection more than allowed is served");
    client.lives().await;
    running.stop().await.unwrap();
}
