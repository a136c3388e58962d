//! What a check finds.

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// The check found nothing wrong.
    Ok,
    /// The check could not be made.
    Skipped,
    /// It works, and may fail.
    Warning,
    /// It fails now, or the next failure loses data or availability.
    Error,
}

impl Severity {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// The name of a check, as reports show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Addresses,
    Replication,
    Racks,
    Durability,
    Disks,
    Voters,
    Groups,
    Transactions,
    Clocks,
    Files,
}

impl Check {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Addresses => "addresses",
            Self::Replication => "replication",
            Self::Racks => "racks",
            Self::Durability => "durability",
            Self::Disks => "disks",
            Self::Voters => "voters",
            Self::Groups => "groups",
            Self::Transactions => "transactions",
            Self::Clocks => "clocks",
            Self::Files => "files",
        }
    }
}

/// One finding of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub check: Check,
    pub severity: Severity,
    /// What is so.
    pub text: String,
    /// What to do about it; empty for nothing.
    pub advice: String,
}

impl Finding {
    pub(super) fn ok(check: Check, text: impl Into<String>) -> Self {
        Self { check, severity: Severity::Ok, text: text.into(), advice: String::new() }
    }

    /// A check that could not be made, and why.
    pub(super) fn skipped(check: Check, why: impl Into<String>) -> Self {
        Self { check, severity: Severity::Skipped, text: format!("not checked: {}", why.into()), advice: String::new() }
    }

    pub(super) fn warning(check: Check, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, severity: Severity::Warning, text: text.into(), advice: advice.into() }
    }

    pub(super) fn error(check: Check, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, severity: Severity::Error, text: text.into(), advice: advice.into() }
    }
}

/// The first names of a list, and the count of the others.
pub(super) fn name_some(names: &[String]) -> String {
    const NAMED: usize = 5;
    let first: Vec<_> = names.iter().take(NAMED).map(String::as_str).collect();
    match names.len().saturating_sub(NAMED) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
