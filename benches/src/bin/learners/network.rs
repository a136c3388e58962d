//! The network between members: connections in memory or by TCP, and the serving side of the private messages.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use esker_benches::Result;
use esker_broker::node::Stream;
use esker_broker::peer::messages::{HelloDataRequest, HelloRequest, HelloResponse, IdentifyRequest, IdentifyResponse};
use esker_broker::raft::wire::{
    RaftAppendRequest, RaftAppendResponse, RaftSnapshotRequest, RaftTransferRequest, RaftVoteRequest,
};
use esker_broker::raft::{RaftId, RaftPullRequest, RaftPullSnapshotRequest, RaftServer};
use esker_protocol::primitives::{Reader, Uuid};
use esker_protocol::{Request, RequestHeader, encode_response};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

/// Bytes under way in one direction of a connection in memory.
const IN_FLIGHT: usize = 256 << 10;

/// The cluster that the members believe to be in.
pub const CLUSTER: &str = "learners";

/// Who a member is. Nodes are counted from 1.
pub fn id_of(number: usize) -> Result<RaftId> {
    let node_id = i32::try_from(number)?;
    Ok(RaftId { node_id, directory: u128::try_from(number)?.to_be_bytes() })
}

/// Where it is.
pub fn address_of(number: usize) -> String {
    format!("node-{number}:9092")
}

/// Who serves, and on which threads.
#[derive(Debug, Clone)]
pub struct Host {
    /// The member.
    pub id: RaftId,
    /// Where its tasks run.
    pub control: Handle,
    /// Its raft; `None`: a stub that acknowledges all entries.
    pub server: Option<Arc<RaftServer>>,
}

#[derive(Debug, Clone)]
struct Listening {
    host: Host,
    socket: Option<SocketAddr>,
}

/// See the module. Clones are the same network.
#[derive(Debug, Clone)]
pub struct Network {
    tcp: bool,
    hosts: Arc<Mutex<BTreeMap<String, Listening>>>,
}

impl Network {
    /// Without members yet.
    pub fn new(tcp: bool) -> Self {
        Self { tcp, hosts: Arc::default() }
    }

    /// From here on a member serves at its address.
    pub async fn listen(&self, address: &str, host: Host) -> Result<()> {
        let socket = if self.tcp { Some(accept(host.clone()).await?) } else { None };
        self.hosts.lock().insert(address.to_owned(), Listening { host, socket });
        Ok(())
    }

    /// Connects to the member at `address`.
    pub async fn connect(&self, address: &str) -> io::Result<Box<dyn Stream>> {
        let Some(Listening { host, socket }) = self.hosts.lock().get(address).cloned() else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        if let Some(socket) = socket {
            let stream = TcpStream::connect(socket).await?;
            stream.set_nodelay(true)?;
            return Ok(Box::new(stream));
        }
        let (own, served) = tokio::io::duplex(IN_FLIGHT);
        host.control.clone().spawn(serve(served, host));
        Ok(Box::new(own))
    }
}

/// Accepts connections on the member's threads.
async fn accept(host: Host) -> Result<SocketAddr> {
    let control = host.control.clone();
    let bound = control.spawn(TcpListener::bind("127.0.0.1:0")).await??;
    let socket = bound.local_addr()?;
    control.spawn(async move {
        while let Ok((stream, _)) = bound.accept().await {
            // It only delays.
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(stream, host.clone()));
        }
    });
    Ok(socket)
}

/// Serves one connection until it ends. Requests are answered in order.
async fn serve(mut stream: impl Stream, host: Host) {
    if let Err(error) = answer_all(&mut stream, &host).await
        && error.downcast_ref::<io::Error>().is_none()
    {
        eprintln!("learners: member {}: {error}", host.id);
    }
}

async fn answer_all(stream: &mut impl Stream, host: &Host) -> Result<()> {
    let mut peer = RaftId::default();
    loop {
        let length = stream.read_u32().await?;
        let mut frame = vec![0; usize::try_from(length)?];
        stream.read_exact(&mut frame).await?;
        let mut body = Reader::new(frame.into());
        let header = RequestHeader::decode(&mut body)?;
        stream.write_all(&answer(host, &mut peer, &header, &mut body).await?).await?;
    }
}

/// Takes in a hello: the sender is `peer` from then on.
fn greet(host: &Host, peer: &mut RaftId, hello: &HelloRequest) -> HelloResponse {
    *peer = RaftId { node_id: hello.node_id, directory: hello.directory.0 };
    let directory = Uuid(host.id.directory);
    HelloResponse { directory, incarnation: directory, ..HelloResponse::default() }
}

fn identify(host: &Host) -> IdentifyResponse {
    IdentifyResponse {
        cluster_id: Some(CLUSTER.into()),
        node_id: host.id.node_id,
        directory: Uuid(host.id.directory),
        ..IdentifyResponse::default()
    }
}

async fn answer(host: &Host, peer: &mut RaftId, header: &RequestHeader, body: &mut Reader) -> Result<Bytes> {
    match (header.api_key, &host.server) {
        (HelloRequest::KEY, _) => encode(header, &greet(host, peer, &decode(header, body)?)),
        (HelloDataRequest::KEY, _) => {
            encode(header, &greet(host, peer, &decode::<HelloDataRequest>(header, body)?.hello))
        }
        (IdentifyRequest::KEY, _) => encode(header, &identify(host)),
        (RaftPullRequest::KEY, Some(server)) => encode(header, &server.pull(*peer, &decode(header, body)?).await),
        (RaftPullSnapshotRequest::KEY, Some(server)) => {
            encode(header, &server.pull_snapshot(&decode(header, body)?).await)
        }
        (RaftAppendRequest::KEY, None) => {
            decode::<RaftAppendRequest>(header, body)?;
            encode(header, &RaftAppendResponse::default())
        }
        (RaftAppendRequest::KEY, Some(server)) => encode(header, &server.append(&decode(header, body)?).await),
        (RaftVoteRequest::KEY, Some(server)) => encode(header, &server.vote(&decode(header, body)?).await),
        (RaftSnapshotRequest::KEY, Some(server)) => {
            encode(header, &server.receive_snapshot(&decode(header, body)?).await)
        }
        (RaftTransferRequest::KEY, Some(server)) => {
            encode(header, &server.transfer_leader(&decode(header, body)?).await)
        }
        (key, _) => Err(format!("it serves no request {}", key.0).into()),
    }
}

fn decode<R: Request>(header: &RequestHeader, body: &mut Reader) -> Result<R> {
    Ok(R::decode(body, header.api_version)?)
}

fn encode(header: &RequestHeader, response: &impl esker_protocol::Message) -> Result<Bytes> {
    Ok(encode_response(header.api_key, header.api_version, header.correlation_id, response)?.into_bytes())
}
