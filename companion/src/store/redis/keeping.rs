//! Redis' own settings and state → how durable its data is. Of several servers, as in a Redis Cluster, the one that
//! is the least durable counts.

use redis::Value;

use crate::store::Keeping;

/// From the answers to `INFO` and `CONFIG GET save`; nothing for one that was refused.
pub(super) fn keeping(info: Option<&Value>, save: Option<&Value>) -> Keeping {
    let servers = info.map(texts).unwrap_or_default();
    let field = |server: &str, name: &str| {
        let mut fields = server.lines().filter_map(|line| line.split_once(':'));
        let found = fields.find(|(field, _)| *field == name);
        found.map(|(_, value)| value.trim().to_owned())
    };
    let all = |name: &str| -> Vec<String> {
        let found = servers.iter().filter_map(|server| field(server, name));
        found.collect()
    };
    let policies = all("maxmemory_policy");
    let evicting = policies.iter().find(|policy| *policy != "noeviction");
    let logs = all("aof_enabled");
    let limits = all("maxmemory");
    let limits = limits.iter().filter_map(|limit| limit.parse().ok());
    // Its name comes first, or beside each server's answer.
    let save = save.map(texts);
    let snapshots = save.map(|save| save.iter().any(|text| text != "save" && !text.is_empty()));
    Keeping {
        kind: "redis",
        maxmemory_policy: evicting.or(policies.first()).cloned(),
        maxmemory: limits.max(),
        appendonly: (!logs.is_empty()).then(|| logs.iter().all(|is_on| is_on == "1")),
        snapshots,
    }
}

/// Every text in an answer of any form: several servers answer with a map.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::BulkString(bytes) => vec![String::from_utf8_lossy(bytes).into_owned()],
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => vec![text.clone()],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::Map(pairs) => pairs.iter().flat_map(|(_, value)| texts(value)).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn the_server_that_keeps_least_counts() {
        let good =
            text("# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n");
        let alone = keeping(
            Some(&good),
            Some(&Value::Array(vec![text("save"), text("")])),
        );
        assert_eq!(alone.maxmemory_policy.as_deref(), Some("noeviction"));
        assert_eq!(
            (alone.appendonly, alone.snapshots),
            (Some(true), Some(false))
        );

        let bad = text("maxmemory:100\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:0\r\n");
        let both = Value::Map(vec![(text("a:1"), good), (text("b:1"), bad)]);
        let save = Value::Map(vec![(text("save"), text("3600 1"))]);
        let both = keeping(Some(&both), Some(&save));
        assert_eq!(both.maxmemory_policy.as_deref(), Some("allkeys-lru"));
        assert_eq!((both.maxmemory, both.appendonly), (Some(100), Some(false)));
        assert_eq!(both.snapshots, Some(true));
    }

    #[test]
    fn what_a_server_refuses_to_tell_is_unknown() {
        let nothing = keeping(None, Some(&Value::Nil));
        assert_eq!((nothing.maxmemory_policy, nothing.appendonly), (None, None));
        assert_eq!(keeping(None, None).snapshots, None);
    }
}
