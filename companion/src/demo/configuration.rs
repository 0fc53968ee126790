//! The configuration of the demo's Envoy: a shipped file with other ports. Pure.

use std::path::Path;

use serde_json::json;

use super::ports::UnitPorts;

const CONFIG: &str = include_str!("../../../envoy/eds.yaml");

/// `envoy/eds.yaml` with these ports and this filter.
pub(super) fn configuration(ports: UnitPorts, filter: &Path, knows_allow_paths: bool) -> String {
    let moved = [
        (10_000, ports.listener),
        (9901, ports.admin),
        (7001, ports.companion),
        (7002, ports.xds),
    ];
    let field = |port: u16| format!("port_value: {port} ");
    // Through names that are no ports: a new port may equal an old one.
    let named = moved.iter().fold(CONFIG.to_owned(), |text, (from, _)| {
        text.replace(&field(*from), &format!("port_value: @{from} "))
    });
    let text = moved.iter().fold(named, |text, (from, to)| {
        text.replace(&format!("port_value: @{from} "), &field(*to))
    });
    let text = text.replace("target/unitring.wasm", &json!(filter).to_string());
    if knows_allow_paths {
        return text;
    }
    let mut lines = Vec::new();
    let mut is_list = false;
    for line in text.lines() {
        is_list = match line.trim_start() {
            "allow_paths:" => true,
            item => is_list && item.starts_with('-'),
        };
        if !is_list {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: UnitPorts = UnitPorts {
        listener: 7001,
        admin: 12,
        companion: 13,
        xds: 14,
        control: 15,
    };

    #[test]
    fn the_shipped_configuration_is_moved_to_other_ports_and_to_the_filter() {
        let text = configuration(PORTS, Path::new("/else where/f.wasm"), true);
        let ports = |port: u16| text.matches(&format!("port_value: {port} }}")).count();
        assert_eq!([10_000, 9901, 7002].map(ports), [0, 0, 0]);
        assert_eq!([7001, 12, 13, 14].map(ports), [1, 2, 1, 1]);
        assert_eq!(text.matches("filename: \"/else where/f.wasm\"").count(), 1);
        assert!(text.contains("allow_paths"));
    }

    #[test]
    fn an_envoy_that_does_not_know_allow_paths_is_given_none() {
        let text = configuration(PORTS, Path::new("f"), false);
        assert!(!text.contains("allow_paths:") && !text.contains("- exact: /ready"));
        assert!(text.contains("static_resources:\n  listeners:\n    - name: ingress"));
    }
}
