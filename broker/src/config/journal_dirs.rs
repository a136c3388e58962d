//! `log.journal.dir` (Esker's own): the folders of the journals, one for each log dir and in their order.
//!
//! Must never: guess which folder belongs to which log dir.

use std::path::{Path, PathBuf};

/// Refuses what is ambiguous; the error says what to do. No folders: each journal lies in its log dir.
pub(super) fn check(folders: &[PathBuf], log_dirs: &[PathBuf], metadata_log_dir: Option<&Path>) -> Result<(), String> {
    if folders.is_empty() {
        return Ok(());
    }
    if folders.len() != log_dirs.len() {
        let (folders, dirs) = (folders.len(), log_dirs.len());
        return Err(format!(
            "there are {dirs} log dirs and {folders} journal folders: name one folder for each log dir, in the order of log.dirs (a log dir \
             itself, where its journal is to stay in it)"
        ));
    }
    for (number, (folder, own)) in folders.iter().zip(log_dirs).enumerate() {
        let name = folder.display();
        if folders.iter().take(number).any(|other| other == folder) {
            return Err(format!("{name} is named twice: each journal needs a folder of its own"));
        }
        if folder != own && log_dirs.contains(folder) {
            return Err(format!(
                "{name} is another log dir than the one at its place in log.dirs: name a folder beside it"
            ));
        }
        if Some(folder.as_path()) == metadata_log_dir {
            return Err(format!("{name} is the metadata.log.dir: name a folder beside it"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let cases: [(&str, &str, Option<&str>); 9] = [
            ("", "/a,/b", None),
            ("/j", "/a", None),
            ("/j,/k", "/a,/b", None),
            ("/a,/k", "/a,/b", None),
            ("/j", "/a,/b", Some("2 log dirs and 1 journal folders")),
            ("/j,/k", "/a", Some("1 log dirs and 2 journal folders")),
            ("/j,/j", "/a,/b", Some("/j is named twice")),
            ("/b,/a", "/a,/b", Some("/b is another log dir")),
            ("/m", "/a", Some("/m is the metadata.log.dir")),
        ];
        let folders =
            |text: &str| text.split(',').filter(|item| !item.is_empty()).map(PathBuf::from).collect::<Vec<_>>();
        for (journals, dirs, refused) in cases {
            let checked = check(&folders(journals), &folders(dirs), Some(Path::new("/m")));
            match refused {
                None => assert_eq!(checked, Ok(()), "{journals} for {dirs}"),
                Some(part) => assert!(checked.unwrap_err().contains(part), "{journals} for {dirs}"),
            }
        }
    }
}
