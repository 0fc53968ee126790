//! The service and its `alias` → its name in stats.
//!
//! A cluster may have any name, but a stat may not: dots divide a stat's name, and stats sinks
//! reserve `:` and `|`. A name without such characters stays as it is. In any other name, `_`
//! replaces each of them, and a hash is appended so that no two services share their stats.

use unitring_protocol::ids::ServiceName;
use unitring_routing::hash::xxh64;

use super::reader::{Section, SettingsError};
use crate::json::Json;

/// The longest `alias`, and the most characters taken from a service's name.
const NAME_BYTES_MAX: usize = 100;

pub(super) fn stat_name(
    root: &mut Section,
    service: &ServiceName,
) -> Result<String, SettingsError> {
    let alias = root.string("alias", "");
    if alias.is_empty() {
        return Ok(derived(service.as_str()));
    }
    if is_plain(&alias) {
        return Ok(alias);
    }
    let rule = "must be 1 to 100 letters, digits, '_' or '-'";
    Err(root.error("alias", &Json::Text(alias), rule))
}

fn is_plain(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
}

fn derived(service: &str) -> String {
    if is_plain(service) {
        return service.to_owned();
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let name = service.chars().map(|c| if plain(c) { c } else { '_' });
    let name: String = name.take(NAME_BYTES_MAX).collect();
    let [.., a, b, c] = xxh64(service.as_bytes()).to_be_bytes();
    format!("{name}_{a:02x}{b:02x}{c:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_stays_and_others_are_made_plain_and_stay_apart() {
        assert_eq!(derived("orders-2_x"), "orders-2_x");
        let istio = derived("outbound|8080||orders.default.svc.cluster.local");
        assert!(
            istio.starts_with("outbound_8080__orders_default_svc_cluster_local_"),
            "{istio}"
        );
        assert_ne!(derived("a|b"), derived("a/b"));
        for name in ["a.b", "é", &"x".repeat(512)] {
            assert!(derived(name).len() <= NAME_BYTES_MAX + 7, "{name}");
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            assert!(derived(name).bytes().all(plain), "{name}");
        }
    }
}
