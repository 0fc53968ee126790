//! The Lua scripts, each a step of its own.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use redis::Script;

macro_rules! scripts {
    ($($(#[$about:meta])* $name:ident: $script:expr;)*) => {
        pub(super) struct Scripts {
            $($(#[$about])* pub(super) $name: Script,)*
        }

        impl Scripts {
            pub(super) fn new() -> Self {
                Self { $($name: $script,)* }
            }

            /// The name of each script, by the hash that a call has in its place.
            fn named() -> BTreeMap<String, &'static str> {
                let scripts = Self::new();
                BTreeMap::from([$((scripts.$name.get_hash().to_owned(), stringify!($name)),)*])
            }
        }
    };
}

macro_rules! script {
    ($($file:literal),*) => { Script::new(concat!($(include_str!($file)),*)) };
}

/// These run although memory is at its limit: they free memory, or nothing is freed without them.
macro_rules! over_the_limit {
    ($head:literal; $($file:literal),*) => {
        Script::new(concat!("#!lua flags=allow-oom\n", $head, $(include_str!($file)),*))
    };
}

scripts! {
    write: script!("common.lua", "write.lua");
    /// The same as `write` for deletions, which run although Redis is full.
    delete: over_the_limit!(""; "common.lua", "write.lua");
    apply: Script::new(concat!(
        "local FREES = false\n",
        include_str!("common.lua"),
        include_str!("apply.lua")
    ));
    /// Applies only changes that free memory, although Redis is full.
    apply_freeing: over_the_limit!("local FREES = true\n"; "common.lua", "apply.lua");
    outbox: script!("common.lua", "outbox.lua");
    read: script!("read.lua");
    state: script!("state.lua");
    confirm: over_the_limit!(""; "confirm.lua");
    registry: script!("registry.lua");
    sweep: over_the_limit!(""; "common.lua", "sweep.lua");
    recount: over_the_limit!(""; "common.lua", "recount.lua");
    clock: over_the_limit!(""; "clock.lua");
    reset: over_the_limit!(""; "common.lua", "reset.lua");
    lead: over_the_limit!(""; "lead.lua");
    resign: script!("resign.lua");
    append: script!("event_log.lua", "append.lua");
    take: script!("event_log.lua", "take.lua");
    changed: script!("changed.lua");
    register: script!("event_log.lua", "register.lua");
    remove: script!("event_log.lua", "remove.lua");
    events: script!("events.lua");
    log_size: over_the_limit!(""; "event_log.lua", "log_size.lua");
    forget: script!("forget.lua");
}

/// The name of the script that a call runs, by its digest.
pub(super) fn name_of(digest: &str) -> Option<&'static str> {
    static NAMES: LazyLock<BTreeMap<String, &str>> = LazyLock::new(Scripts::named);
    NAMES.get(digest).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_has_a_name_and_a_digest_of_its_own() {
        let scripts = Scripts::new();
        assert_eq!(name_of(scripts.write.get_hash()), Some("write"));
        assert_eq!(name_of(scripts.delete.get_hash()), Some("delete"));
        assert_eq!(Scripts::named().len(), 23);
        assert_eq!(name_of("?"), None);
    }
}
