//! The value of one config, by its name.

use esker_core::config::{Scope, Statics, lookup};

/// A value as it was given, or its default; `None` is null.
pub(super) fn text(statics: &Statics, name: &str) -> Option<String> {
    let given = statics.0.get(name).cloned();
    given.or_else(|| lookup(Scope::Broker, name).and_then(|key| key.default).map(str::to_owned))
}
