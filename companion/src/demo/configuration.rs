//! The configuration of the demo's Envoy: a shipped file with other ports. Pure.

mod registry;

use std::path::Path;

use serde_json::json;

use super::ports::UnitPorts;
use super::{DemoError, Protocol};

const EDS: &str = include_str!("../../../envoy/eds.yaml");
const TCP: &str = include_str!("../../../envoy/tcp.yaml");

/// The shipped file for the protocol, with these ports and this filter.
pub(super) fn configuration(
    protocol: Protocol,
    ports: UnitPorts,
    filter: &Path,
    knows_allow_paths: bool,
) -> Result<String, DemoError> {
    let shipped = match protocol {
        Protocol::Http => EDS.to_owned(),
        Protocol::Tcp => registry::with_registry(TCP, EDS)?,
    };
    let text = moved(&shipped, ports);
    let text = text.replace("target/unitring.wasm", &json!(filter).to_string());
    Ok(if knows_allow_paths {
        text
    } else {
        without_allow_paths(&text)
    })
}

fn moved(text: &str, ports: UnitPorts) -> String {
    let moved = [
        (10_000, ports.listener),
        (9901, ports.admin),
        (7001, ports.companion),
        (7002, ports.xds),
    ];
    let field = |port: u16| format!("port_value: {port} ");
    // Through names that are no ports: a new port may equal an old one.
    let named = moved.iter().fold(text.to_owned(), |text, (from, _)| {
        text.replace(&field(*from), &format!("port_value: @{from} "))
    });
    moved.iter().fold(named, |text, (from, to)| {
        text.replace(&format!("port_value: @{from} "), &field(*to))
    })
}

fn without_allow_paths(text: &str) -> String {
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
    fn the_shipped_configurations_are_moved_to_other_ports_and_to_the_filter() {
        for protocol in [Protocol::Http, Protocol::Tcp] {
            let filter = Path::new("/else where/f.wasm");
            let text = configuration(protocol, PORTS, filter, true).unwrap();
            let ports = |port: u16| text.matches(&format!("port_value: {port} }}")).count();
            assert_eq!(
                [10_000, 9901, 7002, 8081].map(ports),
                [0; 4],
                "{protocol:?}"
            );
            assert_eq!([7001, 12, 13, 14].map(ports), [1, 2, 1, 1], "{protocol:?}");
            assert_eq!(text.matches("filename: \"/else where/f.wasm\"").count(), 1);
            assert!(text.contains("allow_paths"));
        }
    }

    #[test]
    fn an_envoy_that_does_not_know_allow_paths_is_given_none() {
        for protocol in [Protocol::Http, Protocol::Tcp] {
            let text = configuration(protocol, PORTS, Path::new("f"), false).unwrap();
            assert!(!text.contains("allow_paths:") && !text.contains("- exact: /ready"));
            assert!(text.contains("static_resources:\n  listeners:\n    - name: ingress"));
        }
    }
}
