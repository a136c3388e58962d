//! SCRAM credentials. None are stored: authentication is not served, so storing one would promise too much.
//!
//! Requests that Kafka refuses are refused with its codes. A credential that Kafka would store is SECURITY_DISABLED here.

use std::collections::{BTreeMap, BTreeSet};

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResult,
};
use esker_protocol::messages::describe_user_scram_credentials::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResult,
};
use esker_protocol::primitives::Str;

use super::decision::Refusal;

/// SCRAM-SHA-256 and SCRAM-SHA-512.
const MECHANISMS: [i8; 2] = [1, 2];
/// How often a password may be hashed.
const ITERATIONS: std::ops::RangeInclusive<i32> = 4096..=16384;

/// The users of a DescribeUserScramCredentials request: each once, in the order of the request.
pub fn describe_scram_credentials(
    request: &DescribeUserScramCredentialsRequest,
) -> Vec<DescribeUserScramCredentialsResult> {
    let users: Vec<&Str> = request.users.iter().flatten().map(|user| &user.name).collect();
    let each = once(&users).into_iter().map(|(user, times)| {
        let (error_code, error_message) = match times {
            1 => {
                let message = format!("Attempt to describe a user credential that does not exist: {user}");
                (ErrorCode::RESOURCE_NOT_FOUND, message)
            }
            _ => {
                let message = "Cannot describe SCRAM credentials for the same user twice in a single request";
                (ErrorCode::DUPLICATE_RESOURCE, format!("{message}: {user}"))
            }
        };
        DescribeUserScramCredentialsResult {
            user: user.clone(),
            error_code,
            error_message: Some(error_message.into()),
            credential_infos: Vec::new(),
        }
    });
    each.collect()
}

/// The answer to AlterUserScramCredentials, by user: of several things that are wrong the first, deletions before the rest.
pub fn alter_scram_credentials(request: &AlterUserScramCredentialsRequest) -> Vec<AlterUserScramCredentialsResult> {
    let mut refused: BTreeMap<&Str, Refusal> = BTreeMap::new();
    for deletion in &request.deletions {
        let refusal = malformed(&deletion.name, deletion.mechanism, None).unwrap_or_else(|| {
            Refusal::new(ErrorCode::RESOURCE_NOT_FOUND, "Attempt to delete a user credential that does not exist")
        });
        refused.entry(&deletion.name).or_insert(refusal);
    }
    let mut sound = BTreeSet::new();
    for change in &request.upsertions {
        if refused.contains_key(&change.name) {
            continue;
        }
        if sound.contains(&(&change.name, change.mechanism)) {
            let message = "A user credential cannot be altered twice in the same request";
            refused.insert(&change.name, Refusal::new(ErrorCode::DUPLICATE_RESOURCE, message));
            continue;
        }
        match malformed(&change.name, change.mechanism, Some(change.iterations)) {
            Some(refusal) => _ = refused.insert(&change.name, refusal),
            None => _ = sound.insert((&change.name, change.mechanism)),
        }
    }
    for (user, _) in sound {
        let message =
            "SASL is not served by this version of Esker: the credential would protect nothing, and is not stored.";
        refused.entry(user).or_insert_with(|| Refusal::new(ErrorCode::SECURITY_DISABLED, message));
    }
    let result = |(user, refusal): (&Str, Refusal)| AlterUserScramCredentialsResult {
        user: user.clone(),
        error_code: refusal.code,
        error_message: Some(refusal.message),
    };
    refused.into_iter().map(result).collect()
}

/// What is wrong with one change by itself.
fn malformed(name: &Str, mechanism: i8, iterations: Option<i32>) -> Option<Refusal> {
    let unacceptable = |message: &str| Some(Refusal::new(ErrorCode::UNACCEPTABLE_CREDENTIAL, message));
    match iterations {
        _ if name.is_empty() => unacceptable("Username must not be empty"),
        _ if !MECHANISMS.contains(&mechanism) => {
            Some(Refusal::new(ErrorCode::UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism"))
        }
        Some(iterations) if iterations < *ITERATIONS.start() => unacceptable("Too few iterations"),
        Some(iterations) if iterations > *ITERATIONS.end() => unacceptable("Too many iterations"),
        _ => None,
    }
}

/// Each name with how often it is there, in the order of first appearance.
fn once<'a>(users: &[&'a Str]) -> Vec<(&'a Str, usize)> {
    let mut times: BTreeMap<&Str, usize> = BTreeMap::new();
    users.iter().for_each(|user| *times.entry(user).or_default() += 1);
    users.iter().filter_map(|user| times.remove(user).map(|times| (*user, times))).collect()
}

#[cfg(test)]
mod tests {
    use esker_protocol::messages::alter_user_scram_credentials::{ScramCredentialDeletion, ScramCredentialUpsertion};
    use esker_protocol::messages::describe_user_scram_credentials::UserName;

    use super::*;

    #[test]
    fn nothing_is_found_and_nothing_is_stored() {
        let users = |names: &[&'static str]| {
            let users = names.iter().map(|name| UserName { name: (*name).into() }).collect();
            let found = describe_scram_credentials(&DescribeUserScramCredentialsRequest { users: Some(users) });
            found.into_iter().map(|one| (one.user.to_string(), one.error_code)).collect::<Vec<_>>()
        };
        assert_eq!(users(&[]), []);
        let found = [("a".to_owned(), ErrorCode::DUPLICATE_RESOURCE), ("b".to_owned(), ErrorCode::RESOURCE_NOT_FOUND)];
        assert_eq!(users(&["a", "b", "a"]), found);
        assert!(describe_scram_credentials(&DescribeUserScramCredentialsRequest { users: None }).is_empty());

        type Change = (&'static str, i8, Option<i32>);
        let alter = |changes: &[Change]| {
            let mut request = AlterUserScramCredentialsRequest::default();
            for (name, mechanism, iterations) in changes {
                let (name, mechanism) = (Str::from(*name), *mechanism);
                match iterations {
                    None => request.deletions.push(ScramCredentialDeletion { name, mechanism }),
                    Some(iterations) => request.upsertions.push(ScramCredentialUpsertion {
                        name,
                        mechanism,
                        iterations: *iterations,
                        ..ScramCredentialUpsertion::default()
                    }),
                }
            }
            let results = alter_scram_credentials(&request);
            assert!(results.iter().all(|one| one.error_message.as_ref().is_some_and(|text| !text.is_empty())));
            results.into_iter().map(|one| one.error_code).collect::<Vec<_>>()
        };
        for (changes, expected) in [
            (&[][..], vec![]),
            (&[("u", 1, Some(4096))], vec![ErrorCode::SECURITY_DISABLED]),
            (&[("u", 1, Some(4096)), ("u", 2, Some(4096))], vec![ErrorCode::SECURITY_DISABLED]),
            (&[("u", 1, Some(4096)), ("u", 1, Some(4096))], vec![ErrorCode::DUPLICATE_RESOURCE]),
            (&[("u", 1, Some(4095))], vec![ErrorCode::UNACCEPTABLE_CREDENTIAL]),
            (&[("u", 1, Some(16385))], vec![ErrorCode::UNACCEPTABLE_CREDENTIAL]),
            (&[("", 1, Some(4096))], vec![ErrorCode::UNACCEPTABLE_CREDENTIAL]),
            (&[("u", 0, Some(4096))], vec![ErrorCode::UNSUPPORTED_SASL_MECHANISM]),
            (&[("u", 1, None)], vec![ErrorCode::RESOURCE_NOT_FOUND]),
            (&[("u", 1, Some(4096)), ("u", 1, Some(1))], vec![ErrorCode::DUPLICATE_RESOURCE]),
            (&[("u", 1, Some(1)), ("u", 1, Some(4096))], vec![ErrorCode::UNACCEPTABLE_CREDENTIAL]),
            (&[("u", 1, None), ("u", 1, Some(1))], vec![ErrorCode::RESOURCE_NOT_FOUND]),
            (
                &[("u", 9, None), ("", 1, None)],
                vec![ErrorCode::UNACCEPTABLE_CREDENTIAL, ErrorCode::UNSUPPORTED_SASL_MECHANISM],
            ),
        ] {
            assert_eq!(alter(changes), expected, "{changes:?}");
        }
    }
}
