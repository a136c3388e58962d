//! Names the commit that is checked out where a release is built, as `ESKER_COMMIT` of the compiler (`src/build.rs` reads it).
//!
//! `ESKER_COMMIT` of the build's environment comes first: an image is built without the history. Else git is asked, where the sources are a
//! clone. A debug build has no commit: each commit would compile the broker anew. Must never: fail a build, or name the commit of another
//! repository that the sources happen to lie in.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Variables that name another repository than that of the folder.
pub const GIT_ENVIRONMENT: [&str; 6] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX"];

/// The commit of a clone.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// The first 12 digits.
    pub commit: String,
    /// Files and folders of which one changes with every commit and checkout.
    pub moves_with: Vec<PathBuf>,
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ESKER_COMMIT");
    let is_set = std::env::var_os("ESKER_COMMIT").is_some_and(|commit| !commit.is_empty());
    if is_set || std::env::var("PROFILE").is_ok_and(|profile| profile == "debug") {
        return;
    }
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let Some(head) = manifest.as_deref().and_then(Path::parent).and_then(find_head) else { return };
    println!("cargo::rustc-env=ESKER_COMMIT={}", head.commit);
    for path in head.moves_with {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

/// The commit of the clone whose top folder this is.
pub fn find_head(root: &Path) -> Option<Head> {
    let mut git = Command::new("git");
    // A hook of git builds with these set, for its own repository.
    for name in GIT_ENVIRONMENT {
        git.env_remove(name);
    }
    let paths = ["HEAD", "logs/HEAD", "refs/heads", "packed-refs", "reftable/tables.list"];
    let asked = paths.iter().flat_map(|path| ["--git-path", path]);
    git.arg("-C").arg(root).args(["rev-parse", "--show-toplevel"]).args(asked).args(["--short=12", "HEAD"]);
    let answer = git.output().ok()?;
    let text = String::from_utf8(answer.stdout).ok().filter(|_| answer.status.success())?;
    let [top, head, log, others @ .., commit] =
        text.lines().collect::<Vec<_>>().try_into().ok().map(|lines: [&str; 7]| lines)?;
    let is_own = Path::new(top).canonicalize().ok()? == root.canonicalize().ok()?;
    // The log of HEAD changes with every one of them, where git keeps one. A path that is not there would make each build a changed one.
    let log = root.join(log);
    let others = if log.is_file() { vec![log] } else { others.iter().map(|path| root.join(path)).collect() };
    let moves_with = [root.join(head)].into_iter().chain(others).filter(|path| path.exists()).collect();
    is_own.then(|| Head { commit: commit.to_owned(), moves_with })
}
