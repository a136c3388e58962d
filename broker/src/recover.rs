//! `esker cluster recover`: the node of a data folder becomes the only voter of its cluster, offline.
//!
//! It is for a quorum that is lost for good: the node cannot know what the other voters committed without it. It says what may be lost, and
//! changes nothing before that is confirmed. The entry that makes it the only voter is in a term above all of the old quorum, and members of the
//! old quorum are refused until they take the recovered log (`esker_storage::metalog::recovery_of`).

use std::io::{BufRead, stdin};
use std::path::Path;
use std::sync::Arc;

use esker_broker::metadata_dir::{log_in, promise_in};
use esker_broker::raft::{is_log_in, is_node_of, recover_quorum};
use esker_cli::{CliError, RecoverArgs, print_line};
use esker_storage::io::{Disk, OsDisk};
use esker_storage::metalog::{LogId, QuorumState, VoterId};
use esker_storage::{Folder, FolderIdentity, MachineEnv};

/// Runs it. Blocks for the disk and for the answer.
pub(crate) fn run(args: &RecoverArgs) -> Result<(), CliError> {
    let (disk, dir): (Arc<dyn Disk>, _) = (Arc::new(OsDisk), args.data_dir.as_path());
    let (identity, own) = own_identity(disk.as_ref(), dir)?;
    // The lock is held to the end. The folder is formatted already: nothing is written.
    let FolderIdentity { cluster_id, node_id, .. } = &identity;
    let _folder = Folder::open(&MachineEnv::default(), disk.as_ref(), dir, cluster_id, *node_id, None)?;
    if let Some(cluster) = promise_in(disk.as_ref(), dir)? {
        return Err(CliError::Refused(format!(
            "{} was given a place in cluster {cluster}, and has not received the cluster's metadata: it cannot recover it",
            dir.display()
        )));
    }
    let state = QuorumState::read(disk.as_ref(), &log_in(dir))?;
    if !is_node_of(&state, own)? {
        return Err(CliError::Refused(format!(
            "the metadata log in {} does not know node {own}: the folder never belonged to a node of this cluster",
            dir.display()
        )));
    }
    describe(&identity, own, &state)?;
    if !args.yes && !is_confirmed()? {
        return Err(CliError::Refused("nothing is changed".to_owned()));
    }
    let entry = recover_quorum(disk, &log_in(dir), own, state)?;
    Ok(print_line(&format!(
        "node {} is the only voter, from term {}, index {} on: start it with `esker serve` before any other node",
        own.node_id, entry.term, entry.index
    ))?)
}

/// Who the node is; refused where the folder holds no metadata log of a node.
fn own_identity(disk: &dyn Disk, dir: &Path) -> Result<(FolderIdentity, VoterId), CliError> {
    let refused = |why: &str| CliError::Refused(format!("{} {why}", dir.display()));
    let identity = Folder::identity(disk, dir)?;
    let identity = identity.ok_or_else(|| refused("is no data folder: it has no meta.properties"))?;
    let directory = identity.directory_id.ok_or_else(|| refused("was never a member: it has no directory.id"))?;
    if !is_log_in(disk, &log_in(dir))? {
        return Err(refused("holds no metadata log: it was never a member, or the log is in another folder"));
    }
    let own = VoterId { node_id: identity.node_id, directory: directory.0 };
    Ok((identity, own))
}

fn describe(identity: &FolderIdentity, own: VoterId, state: &QuorumState) -> Result<(), CliError> {
    let at =
        |id: Option<LogId>| id.map_or_else(|| "none".to_owned(), |id| format!("term {}, index {}", id.term, id.index));
    let is_voter = |id: &VoterId| state.members.voters.iter().any(|voters| voters.contains(id));
    let others = state.members.addresses.iter().filter(|(id, _)| **id != own);
    let name = |(id, address): (&VoterId, &String)| match address.is_empty() {
        true => id.to_string(),
        false => format!("{id} at {address}"),
    };
    let list = |votes: bool| {
        let names: Vec<String> = others.clone().filter(|(id, _)| is_voter(id) == votes).map(name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let role = if is_voter(&own) { "a voter" } else { "no voter" };
    print_line(&format!(
        "node {} of cluster {}, {role} so far\n  last entry of its metadata log   {}\n  known to be committed up to      {}\n  \
         other voters                     {}\n  other members                    {}\n",
        own.node_id,
        identity.cluster_id,
        at(state.last),
        at(state.committed),
        list(true),
        list(false),
    ))?;
    Ok(print_line(
        "This makes the node the only voter.\n\
         * What the other voters have committed behind its last entry is lost: topics, configs, in-sync replicas and all else that was\n  \
         acknowledged meanwhile. If the folder of another voter still exists, run this command there, too, and answer no: recover the one with the\n  \
         highest term, and among equal terms the highest index.\n\
         * Entries behind those that are known to be committed become committed.\n\
         * No other voter may run now. Two of them could elect a leader of their own, and records that clients then write there are lost.\n\
         * Start this node first. Start the others again with --join and its address: they keep their node ids and partitions, take its metadata log\n  \
         and rename their own (replaced-metadata.log). Voters come back by themselves, up to controller.quorum.size.\n",
    )?)
}

fn is_confirmed() -> Result<bool, CliError> {
    print_line("Type yes to go on:")?;
    let mut line = String::new();
    stdin().lock().read_line(&mut line)?;
    Ok(line.trim() == "yes")
}
