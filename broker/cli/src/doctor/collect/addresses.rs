//! Connections to the addresses that clients use: those of the bootstrap list, and those that brokers advertise.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use esker_client::admin::RegisteredBroker;
use esker_client::{Admin, Client, ClientConfig};
use futures_util::future::join_all;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::super::facts::{BootstrapFacts, Fact, Way};

/// Connects to each address of the bootstrap list.
pub(super) async fn try_bootstrap(config: &ClientConfig, patience: Duration) -> Vec<BootstrapFacts> {
    let one = |address: &String| {
        let address = address.clone();
        async move {
            let resolved = resolve(&address, patience).await;
            let reached = match &resolved {
                Ok(found) => connect(found, patience).await,
                Err(why) => Err(why.clone()),
            };
            let is_loopback = resolved.is_ok_and(|found| is_loopback(&found));
            BootstrapFacts { address, is_loopback, reached }
        }
    };
    join_all(config.bootstrap.iter().map(one)).await
}

/// Goes to each broker at its advertised address, as a client does after the bootstrap.
pub(super) async fn try_brokers(config: &ClientConfig, brokers: &[RegisteredBroker], cluster_id: &str) -> Vec<Way> {
    let one = |broker: &RegisteredBroker| {
        let (address, fenced) = (broker.broker.address(), broker.fenced);
        async move { if fenced { Way::NotTried } else { try_broker(config, &address, cluster_id).await } }
    };
    join_all(brokers.iter().map(one)).await
}

async fn try_broker(config: &ClientConfig, address: &str, cluster_id: &str) -> Way {
    let patience = config.connect_timeout;
    let resolved = match resolve(address, patience).await {
        Ok(resolved) => resolved,
        Err(why) => return Way::Unresolved(why),
    };
    if let Err(why) = connect(&resolved, patience).await {
        return Way::Unreachable(why);
    }
    // A client of its own: it has no other address to go to.
    let alone = ClientConfig { bootstrap: vec![address.to_owned()], ..config.clone() };
    let asked = async { Admin::new(&Client::connect(alone).await?).describe_cluster().await };
    match timeout(patience.saturating_mul(2), asked).await {
        Err(_) => Way::NoAnswer("no answer in time".to_owned()),
        Ok(Err(error)) => Way::NoAnswer(error.to_string()),
        Ok(Ok(cluster)) if cluster.id.as_str() != cluster_id => Way::OtherCluster(cluster.id.to_string()),
        Ok(Ok(_)) => Way::Reached { only_loopback: is_loopback(&resolved) },
    }
}

async fn resolve(address: &str, patience: Duration) -> Fact<Vec<SocketAddr>> {
    match timeout(patience, lookup_host(address)).await {
        Err(_) => Err(format!("the name service did not answer within {patience:?}")),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(found)) => {
            let found: Vec<_> = found.collect();
            if found.is_empty() { Err("the name has no address".to_owned()) } else { Ok(found) }
        }
    }
}

async fn connect(addresses: &[SocketAddr], patience: Duration) -> Fact<()> {
    match timeout(patience, TcpStream::connect(addresses)).await {
        Err(_) => Err(format!("no connection within {patience:?}")),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(_)) => Ok(()),
    }
}

fn is_loopback(addresses: &[SocketAddr]) -> bool {
    addresses.iter().all(|address| match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    })
}
