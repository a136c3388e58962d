//! What arguments of several commands stand for.

use std::collections::BTreeSet;

use esker_protocol::primitives::Str;

use super::error::CliError;

/// The names without repetitions, in their order.
pub(super) fn distinct(names: &[String]) -> Vec<Str> {
    let mut seen = BTreeSet::new();
    names.iter().filter(|name| seen.insert(name.as_str())).map(|name| Str::copy(name)).collect()
}

/// Keys and values of arguments `KEY=VALUE`.
pub(super) fn pairs(configs: &[String]) -> Result<Vec<(Str, Str)>, CliError> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').ok_or_else(|| CliError::Usage(format!("'{text}' is not KEY=VALUE")))?;
        Ok((Str::copy(key.trim()), Str::copy(value.trim())))
    };
    configs.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_once_each() {
        let names = ["b", "a", "b"].map(str::to_owned);
        assert_eq!(distinct(&names), ["b", "a"].map(Str::copy));
    }

    #[test]
    fn values_may_hold_equals_signs() {
        assert_eq!(pairs(&["a = b=c".to_owned()]).unwrap(), [(Str::copy("a"), Str::copy("b=c"))]);
        assert!(pairs(&["a".to_owned()]).is_err());
    }
}
