//! `cordoned.log.dirs` (KIP-1066) of a broker's own configuration: log dirs that take no new replicas.

use std::path::{Path, PathBuf};

/// All log dirs.
const ALL: &str = "*";

/// Checks that each entry is a log dir, or that the only one is `*`.
pub(super) fn check(entries: &[String], log_dirs: &[PathBuf]) -> Result<(), String> {
    if entries.iter().any(|entry| entry == ALL) {
        return match entries {
            [_] => Ok(()),
            _ => Err("When cordoned.log.dirs is set to *, it must not contain other values".to_owned()),
        };
    }
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let is_known = |entry: &str| log_dirs.iter().any(|dir| absolute(dir) == absolute(Path::new(entry)));
    let missing: Vec<&str> = entries.iter().map(String::as_str).filter(|entry| !is_known(entry)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "All entries in cordoned.log.dirs must be present in log.dirs or log.dir. Missing entries: {}",
        missing.join(",")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_log_dirs_or_all() {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (entries, expected) in [
            (&[][..], None),
            (&["*"], None),
            (&["/a"], None),
            (&["/b/", "/a"], None),
            (&["*", "/a"], Some("must not contain other values")),
            (&["/a", "/c"], Some("Missing entries: /c")),
            (&["a"], Some("Missing entries: a")),
        ] {
            let checked = check(&owned(entries), &["/a".into(), "/b".into()]);
            match expected {
                None => assert_eq!(checked, Ok(()), "{entries:?}"),
                Some(part) => assert!(checked.is_err_and(|error| error.contains(part)), "{entries:?}"),
            }
        }
    }
}
