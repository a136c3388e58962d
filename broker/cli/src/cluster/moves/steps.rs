//! Takes the steps to a goal, each by the state of the cluster before it (`esker_core::plan::next_removal_step`).

use std::cell::RefCell;
use std::time::Duration;

use esker_admin::{AdminError, Survey, cancel_reassignments, move_of, set_cordoned};
use esker_client::admin::Reassignment;
use esker_client::{Admin, Client, ErrorCode, TopicPartition};
use esker_core::plan::{Layout, Move, RemovalStep, next_removal_step};
use serde_json::json;
use tokio::time::sleep;

use super::super::super::safe_to_stop;
use super::super::voters::remove_voter;
use super::goal::Goal;
use super::mover::{Mover, Pace};
use super::options::MoveOptions;
use super::report::print_plan;
use esker_records::error::CliError;
use esker_records::output::print_line;
use esker_records::units::{show_bytes, show_count, show_duration};

/// A broker applies its own config a moment after the cluster knows it.
const PAUSE: Duration = Duration::from_millis(200);
/// A node that is taken for gone is fenced at so many looks, so far apart.
const LOOKS: usize = 4;
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// A node that is drained may get replicas until it is cordoned on all nodes: a few rounds are enough.
const ROUNDS: usize = 20;

/// Runs a command to its goal. `last` gets the line of the last progress.
pub(super) async fn run(goal: Goal, options: &MoveOptions, last: &RefCell<Option<String>>) -> Result<(), CliError> {
    let client = options.connect.client().await?;
    let steps = Steps { client: &client, goal, options, last };
    if options.cancel {
        return steps.cancel().await;
    }
    let survey = Survey::read(&client).await?;
    let moves = steps.plan(&survey.layout)?;
    print_plan(goal, &survey.layout, &moves, options.json)?;
    if options.dry_run {
        return Ok(());
    }
    match goal.emptied() {
        None => steps.move_replicas(&survey, moves).await,
        Some(node_id) => steps.empty(node_id).await,
    }
}

struct Steps<'a> {
    client: &'a Client,
    goal: Goal,
    options: &'a MoveOptions,
    last: &'a RefCell<Option<String>>,
}

impl Steps<'_> {
    fn plan(&self, layout: &Layout) -> Result<Vec<Move>, CliError> {
        Ok(self.goal.plan(layout).map_err(AdminError::from)?)
    }

    /// Moves all replicas off a node; where the node is to leave the cluster, the other steps too.
    async fn empty(&self, node_id: i32) -> Result<(), CliError> {
        let admin = Admin::new(self.client);
        let mut silent = 0;
        for _ in 0..ROUNDS {
            let survey = Survey::read(self.client).await?;
            let step = next_removal_step(survey.facts(node_id));
            if !step.drains() && !matches!(self.goal, Goal::Remove(_)) {
                return self.say(
                    &format!("node {node_id} is drained: it has no replicas, and gets none until `esker cluster uncordon {node_id}`"),
                    "drained",
                );
            }
            match step {
                RemovalStep::Cordon => {
                    set_cordoned(&admin, node_id, true).await?;
                    sleep(PAUSE).await;
                }
                RemovalStep::MoveReplicas => self.move_replicas(&survey, self.plan(&survey.layout)?).await?,
                RemovalStep::RemoveVoter => {
                    remove_voter(self.client, node_id, None).await?;
                    self.say(&format!("node {node_id} is no voter any more"), "voter_removed")?;
                }
                RemovalStep::Stop => return self.ask_to_stop(node_id).await,
                RemovalStep::Unregister => {
                    if !self.is_gone(node_id).await? {
                        silent += 1;
                        if silent == LOOKS {
                            return Err(CliError::Refused(format!(
                                "broker {node_id} is not unregistered: the cluster has it alive, and it does not answer this command. Make its address reachable from here, or stop it, and run `esker cluster {}` again",
                                self.goal
                            )));
                        }
                        sleep(BETWEEN_LOOKS).await;
                        continue;
                    }
                    match admin.unregister_broker(node_id).await {
                        Err(error) if error.code() != Some(ErrorCode::BROKER_ID_NOT_REGISTERED) => {
                            return Err(error.into());
                        }
                        _ => {}
                    }
                    return self.say(&format!("node {node_id} is removed: its broker is unregistered"), "removed");
                }
                RemovalStep::Done => return self.say(&format!("node {node_id} is removed"), "removed"),
            }
        }
        Err(CliError::Refused(format!(
            "node {node_id} still gets replicas: see that nothing creates or reassigns partitions on it, and run `esker cluster {}` again",
            self.goal
        )))
    }

    /// Whether the node is away and stays so: a running one may be fenced for a moment, or not answer one request.
    async fn is_gone(&self, node_id: i32) -> Result<bool, CliError> {
        for look in 0..LOOKS {
            if look > 0 {
                sleep(BETWEEN_LOOKS).await;
            }
            let registered = Admin::new(self.client).registered_brokers().await?;
            if registered.iter().any(|found| found.broker.id == node_id && !found.fenced) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The node has nothing left to do; only its operator can stop it.
    async fn ask_to_stop(&self, node_id: i32) -> Result<(), CliError> {
        let assessment = safe_to_stop::assess(self.client, node_id).await?;
        if !assessment.is_safe() {
            safe_to_stop::print_assessment(node_id, &assessment, self.options.json)?;
            return Err(CliError::No(format!(
                "node {node_id} is not safe to stop now: mend what is named, and run `esker cluster {}` again",
                self.goal
            )));
        }
        Err(CliError::No(format!(
            "node {node_id} has no replicas and no vote, and still runs: stop it, and run `esker cluster {}` again to unregister it",
            self.goal
        )))
    }

    /// Carries the moves out, beside those that an earlier run has begun.
    async fn move_replicas(&self, survey: &Survey, moves: Vec<Move>) -> Result<(), CliError> {
        let planned = |found: &&Reassignment| {
            let is_it = |one: &Move| one.topic == found.partition.topic && one.partition == found.partition.partition;
            !moves.iter().any(is_it)
        };
        let begun = survey.reassignments.iter().filter(|found| self.goal.covers(found)).filter(planned);
        let begun: Vec<Move> = begun.map(|found| move_of(found, survey.bytes(&found.partition))).collect();
        let all = || begun.iter().chain(&moves);
        let (count, bytes): (usize, u64) = (all().count(), all().map(Move::copied_bytes).sum());
        if count == 0 {
            return Ok(());
        }
        let pace = Pace { at_once: usize::from(self.options.at_once), throttle: self.options.throttle };
        let took = Mover::new(self.client, pace, self.options.json, self.last, begun, moves).run().await?;
        let partitions = show_count(count, "partition", "partitions");
        let text = format!("{partitions} moved, {} copied, in {}", show_bytes(bytes), show_duration(took));
        self.say(&text, "moved")
    }

    /// Cancels what an earlier run has begun.
    async fn cancel(&self) -> Result<(), CliError> {
        let admin = Admin::new(self.client);
        let ongoing = admin.list_reassignments().await?;
        let covered: Vec<TopicPartition> =
            ongoing.into_iter().filter(|found| self.goal.covers(found)).map(|found| found.partition).collect();
        let count = cancel_reassignments(&admin, &covered).await?;
        let reassignments = show_count(count, "reassignment is", "reassignments are");
        let text = format!("{reassignments} cancelled; partitions that have moved stay where they are");
        self.say(&text, "cancelled")
    }

    fn say(&self, text: &str, event: &str) -> Result<(), CliError> {
        if self.options.json {
            return Ok(print_line(&json!({"event": event, "text": text}).to_string())?);
        }
        Ok(print_line(text)?)
    }
}
