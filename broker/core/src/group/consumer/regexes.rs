//! Subscriptions by regular expression: the coordinator looks for the topics that they match, and keeps them in a record.
//!
//! The syntax is RE2's, as Kafka's (RE2/J): linear in time whatever the expression. Looking up runs outside of the shard
//! ([`resolve_regexes`] is for a thread that may take its time); what it finds comes back by
//! [`GroupShard::regexes_resolved`].

use std::collections::{BTreeMap, BTreeSet};

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::internal::consumer_groups::{
    ConsumerGroupRecord, ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue,
};
use esker_protocol::primitives::Str;
use regex::{Regex, RegexBuilder};

use super::draft::Draft;
use super::member::ConsumerMember;
use super::request::RegexJob;
use crate::controller::Refusal;
use crate::group::decision::{Consequence, Effects};
use crate::group::history::{Cause, Kind, Reason};
use crate::group::state::GroupShard;
use crate::metadata::MetadataImage;

/// What an expression may be long.
const MAX_LENGTH: usize = 4096;
/// What it may take when compiled.
const MAX_COMPILED: usize = 1 << 20;
/// How often something may be repeated by number.
const MAX_REPETITION: u32 = 1000;
/// Expressions of one group that are looked up at once: beyond, members wait for the next round.
const MAX_AT_ONCE: usize = 1000;
/// However much changes, a group's expressions are looked up no more often.
const LEAST_INTERVAL_MS: i64 = 10_000;

fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > MAX_LENGTH {
        return Err(format!("it is longer than {MAX_LENGTH} bytes"));
    }
    if most_repeated(pattern) > MAX_REPETITION {
        return Err(format!("it repeats something more than {MAX_REPETITION} times"));
    }
    // The whole name must match.
    let whole = format!(r"\A(?:{})\z", unquoted(pattern));
    // Checked alone too: an expression that closes our group is none.
    for text in [&unquoted(pattern), &whole] {
        let built = RegexBuilder::new(text).size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED).build();
        match built {
            Ok(regex) if std::ptr::eq(text, &whole) => return Ok(regex),
            Ok(_) => {}
            Err(regex::Error::CompiledTooBig(_)) => return Err("it is too large when compiled".to_owned()),
            // The last line names the error, the ones before show its place.
            Err(error) => {
                let text = error.to_string();
                let what = text.lines().next_back().unwrap_or_default().trim().trim_start_matches("error: ");
                return Err(what.to_owned());
            }
        }
    }
    Err("it cannot be compiled".to_owned())
}

/// The largest number of a `{n}` or `{n,m}`. One that stands in a class or is quoted counts too: no topic's name has braces.
fn most_repeated(pattern: &str) -> u32 {
    let inside = pattern.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(inside, _)| inside);
    let numbers = inside.filter(|inside| inside.bytes().all(|b| b.is_ascii_digit() || b == b','));
    numbers
        .flat_map(|inside| inside.split(','))
        .map(|n| n.parse().unwrap_or(if n.is_empty() { 0 } else { u32::MAX }))
        .max()
        .unwrap_or(0)
}

/// `\Q...\E` of RE2, spelled out.
fn unquoted(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        match escape.strip_prefix(r"\Q") {
            Some(quoted) => {
                let (literal, after) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
                out.push_str(&regex::escape(literal));
                rest = after;
            }
            None => {
                let end = escape.char_indices().nth(2).map_or(escape.len(), |(end, _)| end);
                let (pair, after) = escape.split_at(end);
                out.push_str(pair);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Whether an expression is one. Takes its time: not for an async worker.
pub fn check_regex(pattern: &str) -> Result<(), Refusal> {
    compile(pattern).map(|_| ()).map_err(|why| {
        let message = format!("SubscribedTopicRegex `{pattern}` is not a valid regular expression: {why}.");
        Refusal::new(ErrorCode::INVALID_REGULAR_EXPRESSION, message)
    })
}

/// The topics that each expression matches. Takes its time: not for an async worker.
pub fn resolve_regexes(job: &RegexJob, image: &MetadataImage) -> BTreeMap<Str, BTreeSet<Str>> {
    let topics_of = |pattern: &Str| {
        let Ok(regex) = compile(pattern) else { return BTreeSet::new() };
        image.topics().filter(|topic| regex.is_match(&topic.name)).map(|topic| topic.name.clone()).collect()
    };
    job.regexes.iter().map(|pattern| (pattern.clone(), topics_of(pattern))).collect()
}

/// What a member's change of expression leads to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RegexChange {
    /// It has another one, or none any more.
    pub changed: bool,
    /// And the topics of the new one are known.
    pub resolved: bool,
}

impl GroupShard {
    pub(super) fn update_regexes(
        &self,
        draft: &mut Draft,
        before: &ConsumerMember,
        after: &ConsumerMember,
        now: i64,
        effects: &mut Effects,
    ) -> Result<RegexChange, Refusal> {
        let mut change = RegexChange::default();
        let mut needed = false;
        if before.regex != after.regex {
            change.changed = true;
            // The draft has the member's new expression counted already.
            if !before.regex.is_empty() && !draft.group.regexes.contains_key(&before.regex) {
                draft.emit(draft.group.regex_tombstone(&before.regex));
            }
            if after.regex.is_empty() {
                change.resolved = !before.regex.is_empty();
            } else if draft.group.regexes.get(&after.regex) == Some(&1) {
                needed = true;
            } else {
                change.resolved = draft.group.resolved.contains_key(&after.regex);
            }
        }
        let group = &draft.group;
        let live = self.consumers.groups.get(&group.id);
        if group.regexes.is_empty() || live.is_some_and(|live| live.resolving) {
            return Ok(change);
        }
        let last = live.and_then(|live| live.group.resolved.values().next());
        let (looked_at, version) = last.map_or((i64::MIN, 0), |resolved| (resolved.at, resolved.version));
        if now <= looked_at.saturating_add(LEAST_INTERVAL_MS) {
            return Ok(change);
        }
        needed |= group.regexes.len() != group.resolved.len();
        needed |= version < i64::try_from(self.consumers.new_topics_at).unwrap_or(i64::MAX);
        needed |= now > looked_at.saturating_add(self.consumers.limits.regex_refresh_interval_ms);
        if needed {
            let regexes = group.regexes.keys().take(MAX_AT_ONCE).cloned().collect();
            effects.actions.push(RegexJob { group: group.id.clone(), regexes });
            effects.update.consequences.push(Consequence::Resolving(group.id.clone(), true));
        }
        Ok(change)
    }

    /// What a [`RegexJob`] found in the metadata of `version`, or that it could not be done.
    pub fn regexes_resolved(&self, id: &Str, found: &BTreeMap<Str, BTreeSet<Str>>, version: u64, now: i64) -> Effects {
        let mut effects = Effects::default();
        effects.update.consequences.push(Consequence::Resolving(id.clone(), false));
        self.record_resolved_topics(id, found, version, now, &mut effects);
        effects
    }

    /// The result of a [`RegexJob`] could not be written: a later heartbeat starts another job.
    pub fn regexes_not_resolved(&self, id: &Str) -> Effects {
        let mut effects = Effects::default();
        effects.update.consequences.push(Consequence::Resolving(id.clone(), false));
        effects
    }

    fn record_resolved_topics(
        &self,
        id: &Str,
        found: &BTreeMap<Str, BTreeSet<Str>>,
        version: u64,
        now: i64,
        effects: &mut Effects,
    ) {
        let Some(group) = self.consumers.group(id) else { return };
        let mut draft = Draft::new(group.clone());
        let mut bump = false;
        for (regex, topics) in found {
            if !draft.group.regexes.contains_key(regex) {
                continue;
            }
            let old = draft.group.resolved.get(regex);
            bump |= old.map_or(!topics.is_empty(), |old| old.topics != *topics);
            let value = ConsumerGroupRegularExpressionValue {
                topics: topics.iter().cloned().collect(),
                version: i64::try_from(version).unwrap_or(i64::MAX),
                timestamp: now,
            };
            let key = ConsumerGroupRegularExpressionKey { group_id: id.clone(), regular_expression: regex.clone() };
            draft.emit(ConsumerGroupRecord::RegularExpression(key, Some(value)));
        }
        let consumers = &self.consumers;
        let hash = consumers.hashes.of_group(&consumers.image, &draft.group);
        if bump || hash != draft.group.metadata_hash {
            let (from, to) = (draft.group.epoch, draft.group.epoch.saturating_add(1));
            draft.emit(draft.group.epoch_record(to, hash));
            let cause = if bump { Cause::new(Reason::RegexChanged) } else { consumers.topic_cause_of(id) };
            effects.record_cause(id, (Kind::Consumer, from, to), cause, now);
            let until = now.saturating_add(i64::from(i32::MAX));
            effects.update.consequences.push(Consequence::Refreshed(id.clone(), until, draft.group.epoch));
        }
        effects.records.extend(draft.records);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_name_must_match() {
        let cases = [
            ("t.*", "topic", true),
            ("t", "topic", false),
            ("a|topic", "topic", true),
            ("topi", "topic", false),
            ("(?i)TOPIC", "topic", true),
            (r"\Qa.b\E.*", "a.bc", true),
            (r"\Qa.b\E.*", "axbc", false),
            (r"\\Q", r"\Q", true),
            ("", "", true),
        ];
        for (pattern, name, matches) in cases {
            assert_eq!(compile(pattern).unwrap().is_match(name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        let long = "a".repeat(MAX_LENGTH + 1);
        for bad in ["([", "a)(b", "*", "a{1000}{1000}{1000}", "a{1001}", "a{1,1001}", "(?=a)", r"(a)\1", &long] {
            assert_eq!(check_regex(bad).map_err(|r| r.code), Err(ErrorCode::INVALID_REGULAR_EXPRESSION), "{bad}");
        }
    }
}
