//! The commit that this program was built from.
//!
//! The program tells its library, which a new commit would otherwise compile again: a change of the variable costs the
//! linking of one program.

use std::sync::OnceLock;

static COMMIT: OnceLock<&'static str> = OnceLock::new();

/// Sets the commit, once, at the start of the program; an empty text counts as no commit.
pub(crate) fn set(commit: Option<&'static str>) {
    if let Some(commit) = commit.filter(|commit| !commit.is_empty()) {
        COMMIT.get_or_init(|| commit);
    }
}

/// It, with `-dirty` if the working tree had changes.
pub(crate) fn get() -> &'static str {
    COMMIT.get().copied().unwrap_or("unknown")
}
