//! What this program was built from.

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    /// The version.
    pub version: &'static str,
    /// The commit, `unknown` where the sources came without their history.
    pub commit: &'static str,
}

/// Of this program.
pub const BUILD: Build = Build {
    version: env!("CARGO_PKG_VERSION"),
    commit: match option_env!("ESKER_COMMIT") {
        Some(commit) => commit,
        None => "unknown",
    },
};
