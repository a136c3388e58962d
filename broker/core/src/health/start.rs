//! The steps of a start, and what blocks each of them, as lines for people.

/// A step of a start; they come in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum StartStep {
    /// Folders are checked.
    #[default]
    Checking,
    /// The nodes of the join list are asked for a cluster, or for what they need to form one.
    Forming,
    /// A cluster is asked for a node id.
    Placing,
    /// Logs are opened, and recovered after a crash.
    OpeningLogs,
    /// The active controller is asked for the metadata log.
    Entering,
    /// The active controller is asked to register this broker.
    Registering,
    /// The metadata log is applied up to the registration.
    CatchingUp,
    /// Partitions are brought in step with the metadata.
    OpeningPartitions,
    /// The controller has to lift the fence.
    Unfencing,
    /// Clients are served.
    Serving,
}

impl StartStep {
    /// What the node does, for people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Checking => "checking the data folder",
            Self::Forming => "waiting for other nodes, to form a cluster or to join one",
            Self::Placing => "asking the cluster for a node id",
            Self::OpeningLogs => "opening logs",
            Self::Entering => "waiting for the metadata log from the active controller",
            Self::Registering => "registering with the active controller",
            Self::CatchingUp => "catching up with the metadata log",
            Self::OpeningPartitions => "opening partitions",
            Self::Unfencing => "waiting for the active controller to lift the fence",
            Self::Serving => "serving",
        }
    }
}

/// A part of a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// What is done.
    pub done: u64,
    /// All of it.
    pub all: u64,
}

/// The state of a start, one line a reason: the step, and what blocks it. `log` is the metadata log, as far as it is applied.
pub fn describe_start(
    step: StartStep,
    blocked_by: &[String],
    (partitions, segments): (Done, Done),
    log: Done,
) -> Vec<String> {
    let first = match step {
        StartStep::OpeningLogs => format!(
            "starting: {} of {} partitions are open, {} of {} segments recovered",
            partitions.done, partitions.all, segments.done, segments.all
        ),
        StartStep::CatchingUp => {
            format!("starting: fenced: catching up with the metadata log, at {} of {}", log.done, log.all)
        }
        step => format!("starting: {}", step.describe()),
    };
    std::iter::once(first).chain(blocked_by.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_names_its_step_and_what_blocks_it() {
        let reasons = ["127.0.0.1:9093 does not answer: connection refused".to_owned()];
        let logs = (Done { done: 3, all: 9 }, Done { done: 1, all: 4 });
        let metadata = Done { done: 120, all: 340 };
        let cases = [
            (StartStep::Forming, &reasons[..], "starting: waiting for other nodes, to form a cluster or to join one"),
            (StartStep::OpeningLogs, &[], "starting: 3 of 9 partitions are open, 1 of 4 segments recovered"),
            (StartStep::CatchingUp, &[], "starting: fenced: catching up with the metadata log, at 120 of 340"),
            (StartStep::Registering, &reasons[..], "starting: registering with the active controller"),
        ];
        for (step, blocked_by, first) in cases {
            let lines = describe_start(step, blocked_by, logs, metadata);
            assert_eq!((lines[0].as_str(), &lines[1..]), (first, blocked_by));
        }
    }

    #[test]
    fn steps_stand_in_the_order_of_a_start() {
        assert!(StartStep::Checking < StartStep::Forming && StartStep::Forming < StartStep::OpeningLogs);
        assert!(StartStep::Registering < StartStep::CatchingUp && StartStep::Unfencing < StartStep::Serving);
    }
}
