//! What this program was built from.

use std::fmt;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    /// The version.
    pub version: &'static str,
    /// The commit; `unknown` where the sources came without their history, and in a debug build.
    pub commit: &'static str,
}

/// Of this program.
pub const BUILD: Build = Build {
    version: env!("CARGO_PKG_VERSION"),
    commit: match option_env!("ESKER_COMMIT") {
        Some(commit) if !commit.is_empty() => commit,
        _ => "unknown",
    },
};

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.version, self.commit)
    }
}

#[cfg(test)]
#[path = "../build.rs"]
#[allow(dead_code)] // its `main` is the build script's
mod script;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::script::{GIT_ENVIRONMENT, find_head};

    fn git(at: &Path, arguments: &[&str]) -> String {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"];
        let mut git = Command::new("git");
        for name in GIT_ENVIRONMENT {
            git.env_remove(name);
        }
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        let output = git.arg("-C").arg(at).args(identity).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn the_commit_is_that_of_the_clone_itself() {
        if Command::new("git").arg("--version").output().is_err() {
            eprintln!("git is not installed");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a clone");
        fs::create_dir_all(root.join("broker")).unwrap();
        assert_eq!(find_head(&root), None, "no history");
        git(&root, &["init", "-q"]);
        assert_eq!(find_head(&root), None, "no commit yet");
        let commit = || {
            git(&root, &["commit", "-q", "--allow-empty", "-m", "one"]);
            git(&root, &["rev-parse", "HEAD"])
        };
        let first = commit();
        let head = find_head(&root).unwrap();
        assert_eq!(head.commit, first[..12]);
        let read = |paths: &[std::path::PathBuf]| paths.iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
        let before = read(&head.moves_with);
        // The commit moves, and a file with it, also where the branch is packed.
        git(&root, &["pack-refs", "--all"]);
        let second = commit();
        assert_eq!(find_head(&root).unwrap().commit, second[..12]);
        assert_ne!(read(&head.moves_with), before);
        // A worktree has a HEAD of its own.
        let tree = dir.path().join("tree");
        git(&root, &["worktree", "add", "-q", "--detach", tree.to_str().unwrap(), &first]);
        let there = find_head(&tree).unwrap();
        assert_eq!(there.commit, first[..12]);
        git(&tree, &["checkout", "-q", &second]);
        assert_eq!(find_head(&tree).unwrap().commit, second[..12]);
        assert!(there.moves_with.iter().all(|path| path.is_file() && !head.moves_with.contains(path)), "{there:?}");
        assert_eq!(find_head(&root.join("broker")), None, "sources inside of another repository");
        // A clone that keeps no log of HEAD.
        git(&root, &["config", "core.logAllRefUpdates", "false"]);
        fs::remove_dir_all(root.join(".git/logs")).unwrap();
        let watched = find_head(&root).unwrap().moves_with;
        assert!(watched.contains(&root.join(".git/refs/heads")), "{watched:?}");
    }
}
