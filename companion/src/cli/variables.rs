//! Environment variables that are probably meant for the program, but are not among its own.

use std::collections::BTreeSet;

use crate::config::raw::nearest;

/// The prefix of all variables.
const PREFIX: &str = "UNITRING_";
/// Most letters by which a prefix may differ from it.
const PREFIX_TYPOS: usize = 2;

/// The environment variables that any command reads.
pub(crate) fn known(command: &clap::Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(clap::Arg::get_env);
    let own = own.map(|name| name.to_string_lossy().into_owned());
    let below = command.get_subcommands().flat_map(known);
    own.chain(below).collect()
}

/// The warning for a variable that is set; `None` if it is known, or another program's.
pub(crate) fn warning(name: &str, known: &BTreeSet<String>) -> Option<String> {
    if known.contains(name) {
        return None;
    }
    let meant = match name.strip_prefix(PREFIX) {
        // The prefix, which all have, makes no name like another.
        Some(rest) => {
            let known = known.iter().filter_map(|name| name.strip_prefix(PREFIX));
            nearest(rest, known).map(|rest| format!("{PREFIX}{rest}"))
        }
        None => Some(misspelt_prefix(name, known)?.to_owned()),
    };
    let meant = meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"));
    Some(format!("{name} is no variable of unitring{meant}"))
}

/// The variable that this is but for its prefix, or for small letters. The rest must be right: other programs have
/// variables, too.
fn misspelt_prefix<'a>(name: &str, known: &'a BTreeSet<String>) -> Option<&'a String> {
    let name = name.to_ascii_uppercase();
    known.iter().find(|known| {
        let Some(rest) = known.strip_prefix(PREFIX) else {
            return false;
        };
        let prefix = name.strip_suffix(rest);
        prefix.is_some_and(|prefix| strsim::damerau_levenshtein(prefix, PREFIX) <= PREFIX_TYPOS)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn a_misspelt_variable_is_told_with_what_was_meant_and_no_other() {
        let known = known(&Cli::command());
        let said = |name: &str| warning(name, &known).unwrap_or_default();
        for (name, meant) in [
            ("UNITRING_STOER_PATH", "UNITRING_STORE_PATH"),
            ("UNITRING_UNTI", "UNITRING_UNIT"),
            ("UNITRING_URI", "UNITRING_URL"),
            ("UNITRNG_UNIT", "UNITRING_UNIT"),
            ("UNIT_RING_STORE_PATH", "UNITRING_STORE_PATH"),
            ("unitring_listen", "UNITRING_LISTEN"),
        ] {
            let all = format!("{name} is no variable of unitring; did you mean {meant}?");
            assert_eq!(said(name), all);
        }
        for name in ["UNITRING_FOO", "UNITRING_COLOUR", "UNITRING_"] {
            assert_eq!(said(name), format!("{name} is no variable of unitring"));
        }
        for name in [
            "UNITRING_UNIT",
            "UNIT",
            "LOG",
            "STRING_LOG",
            "UNITTEST_LOG",
            "HOSTNAME",
            "MY_TOKEN",
        ] {
            assert_eq!(said(name), "", "{name}");
        }
    }
}
