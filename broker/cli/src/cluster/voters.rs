//! `esker cluster voters`: the members of the metadata quorum, and changes of its voters.

use clap::{Args, Subcommand};
use esker_admin::{describe_quorum, log_end};
use esker_client::{Admin, Client, Target};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::add_raft_voter::AddRaftVoterRequest;
use esker_protocol::messages::describe_quorum::{PartitionDataResult, ReplicaState};
use esker_protocol::messages::remove_raft_voter::RemoveRaftVoterRequest;
use esker_protocol::primitives::{Str, Uuid};
use serde_json::json;

use super::outcome::print_outcome;
use esker_records::connect::Connect;
use esker_records::error::CliError;
use esker_records::output::{print_line, table};

/// Arguments of `voters`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct VotersArgs {
    #[command(flatten)]
    list: ListArgs,
    #[command(subcommand)]
    change: Option<VotersCommand>,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    connect: Connect,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum VotersCommand {
    /// Make a node that follows the metadata log a voter.
    Add(ChangeArgs),
    /// Take a voter's vote; it stays no voter until it is added again.
    Remove(ChangeArgs),
}

#[derive(Debug, Args)]
struct ChangeArgs {
    /// The id of the node.
    node_id: i32,
    /// The id of its metadata folder; only needed where the quorum has two members with the node id.
    #[arg(long, value_name = "DIRECTORY_ID")]
    directory: Option<Uuid>,
    #[command(flatten)]
    connect: Connect,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// How long the change may take.
const TIMEOUT_MS: i32 = 25_000;

/// Runs it.
pub async fn run(args: VotersArgs) -> Result<(), CliError> {
    match args.change {
        None => list(args.list).await,
        Some(VotersCommand::Add(args)) => add(args).await,
        Some(VotersCommand::Remove(args)) => remove(args).await,
    }
}

async fn list(args: ListArgs) -> Result<(), CliError> {
    let client = args.connect.client().await?;
    let quorum = describe_quorum(&client).await?;
    let end = log_end(&quorum);
    let voters = quorum.current_voters.iter().map(|voter| (voter, role_of(&quorum, voter)));
    let members: Vec<_> = voters.chain(quorum.observers.iter().map(|observer| (observer, "observer"))).collect();
    if args.json {
        let members = members.iter().map(|(member, role)| {
            json!({
                "id": member.replica_id, "directory": member.replica_directory_id.to_string(), "role": role,
                "log_end": known(member.log_end_offset), "behind": behind(end, member),
                "last_contact_ms": known(member.last_fetch_timestamp),
            })
        });
        let quorum = json!({
            "leader": known(quorum.leader_id.into()), "term": quorum.leader_epoch, "high_watermark": quorum.high_watermark,
            "members": members.collect::<Vec<_>>(),
        });
        return Ok(print_line(&serde_json::to_string_pretty(&quorum)?)?);
    }
    let leader = match quorum.leader_id {
        ..0 => "none (a majority of the voters must run; if it is lost for good, see `esker cluster recover --help`)"
            .to_owned(),
        leader => leader.to_string(),
    };
    print_line(&format!("leader={leader}  term={}  high-watermark={}", quorum.leader_epoch, quorum.high_watermark))?;
    let row = |(member, role): &(&ReplicaState, &str)| {
        vec![
            member.replica_id.to_string(),
            (*role).to_owned(),
            behind(end, member).map_or_else(|| "?".to_owned(), |behind| behind.to_string()),
            member.replica_directory_id.to_string(),
        ]
    };
    Ok(table(&["NODE", "QUORUM", "BEHIND", "DIRECTORY"], &members.iter().map(row).collect::<Vec<_>>())?)
}

fn role_of(quorum: &PartitionDataResult, voter: &ReplicaState) -> &'static str {
    if voter.replica_id == quorum.leader_id { "leader" } else { "voter" }
}

fn known(number: i64) -> Option<i64> {
    Some(number).filter(|number| *number >= 0)
}

/// Entries of the metadata log that a member lacks, if that is known.
fn behind(end: i64, member: &ReplicaState) -> Option<i64> {
    known(member.log_end_offset).map(|log_end| end.saturating_sub(log_end))
}

async fn add(args: ChangeArgs) -> Result<(), CliError> {
    let client = args.connect.client().await?;
    let quorum = describe_quorum(&client).await?;
    let node_id = args.node_id;
    if quorum.current_voters.iter().any(|voter| voter.replica_id == node_id) {
        return Err(CliError::Refused(format!("node {node_id} is a voter already")));
    }
    let Some(directory) = directory_of(&quorum.observers, node_id, args.directory)? else {
        return Err(CliError::Refused(format!(
            "node {node_id} is not in the cluster: start it with --join and the address of a node of this cluster"
        )));
    };
    let request = AddRaftVoterRequest {
        cluster_id: Some(cluster_id(&client).await?),
        timeout_ms: TIMEOUT_MS,
        voter_id: node_id,
        voter_directory_id: directory,
        ..AddRaftVoterRequest::default()
    };
    let answer = client.request(Target::Any, request).await?;
    check(answer.error_code, answer.error_message.as_ref(), &format!("node {node_id} does not become a voter"))?;
    print_outcome(node_id, "voter", &format!("node {node_id} is a voter now"), args.json)
}

async fn remove(args: ChangeArgs) -> Result<(), CliError> {
    let (client, node_id) = (args.connect.client().await?, args.node_id);
    remove_voter(&client, node_id, args.directory).await?;
    let words = format!("node {node_id} is no voter any more");
    print_outcome(node_id, "observer", &words, args.json)
}

/// Takes a voter's vote.
pub(super) async fn remove_voter(client: &Client, node_id: i32, directory: Option<Uuid>) -> Result<(), CliError> {
    let quorum = describe_quorum(client).await?;
    let Some(directory) = directory_of(&quorum.current_voters, node_id, directory)? else {
        return Err(CliError::Refused(format!("node {node_id} is no voter: see `esker cluster voters`")));
    };
    let request = RemoveRaftVoterRequest {
        cluster_id: Some(cluster_id(client).await?),
        voter_id: node_id,
        voter_directory_id: directory,
    };
    let answer = client.request(Target::Any, request).await?;
    check(answer.error_code, answer.error_message.as_ref(), &format!("node {node_id} stays a voter"))
}

/// The metadata folder of the node among these members.
fn directory_of(members: &[ReplicaState], node_id: i32, directory: Option<Uuid>) -> Result<Option<Uuid>, CliError> {
    let of_node =
        members.iter().filter(|member| member.replica_id == node_id).map(|member| member.replica_directory_id);
    let directories: Vec<Uuid> = of_node.filter(|found| directory.is_none_or(|wanted| wanted == *found)).collect();
    match directories.as_slice() {
        [] => Ok(None),
        [directory] => Ok(Some(*directory)),
        several => {
            let several = several.iter().map(Uuid::to_string).collect::<Vec<_>>().join(" and ");
            let text = format!("two members have the node id {node_id}: name one of {several} with --directory");
            Err(CliError::Usage(text))
        }
    }
}

async fn cluster_id(client: &Client) -> Result<Str, CliError> {
    Ok(Admin::new(client).describe_cluster().await?.id)
}

fn check(code: ErrorCode, message: Option<&Str>, what: &str) -> Result<(), CliError> {
    if code.is_error() {
        let message = message.map_or_else(String::new, Str::to_string);
        return Err(CliError::Refused(format!("{what}: {message} ({code})")));
    }
    Ok(())
}
