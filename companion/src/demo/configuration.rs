//! The configuration of the demo's Envoy: a shipped file with other ports. Pure.

mod registry;

use serde_json::json;

use super::ports::UnitPorts;
use super::programs::Shell;
use super::{DemoError, Protocol};

const EDS: &str = include_str!("../../../envoy/eds.yaml");
const TCP: &str = include_str!("../../../envoy/tcp.yaml");
const NATIVE: &str = include_str!("../../../envoy/native.yaml");
const NATIVE_TCP: &str = include_str!("../../../envoy/native-tcp.yaml");

/// The shipped file for the protocol and the shell, with these ports and what Envoy loads.
pub(super) fn configuration(
    protocol: Protocol,
    ports: UnitPorts,
    shell: &Shell,
    knows_allow_paths: bool,
) -> Result<String, DemoError> {
    let shipped = match (shell, protocol) {
        (Shell::Filter(_), Protocol::Http) => EDS.to_owned(),
        (Shell::Filter(_), Protocol::Tcp) => registry::with_registry(TCP, EDS)?,
        (Shell::Native(_), Protocol::Http) => registry::with_registry(NATIVE, EDS)?,
        (Shell::Native(_), Protocol::Tcp) => registry::with_registry(NATIVE_TCP, EDS)?,
    };
    let text = moved(&shipped, ports);
    let text = match shell {
        Shell::Filter(file) => text.replace("target/unitring.wasm", &json!(file).to_string()),
        Shell::Native(file) => text.replace("target/libunitring.so", &json!(file).to_string()),
    };
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

    fn filter() -> Shell {
        Shell::Filter("/else where/f".into())
    }

    #[test]
    fn the_shipped_configurations_are_moved_to_other_ports_and_to_what_is_loaded() {
        let native = || Shell::Native("/else where/f".into());
        for (shell, loaded, admin) in [(filter(), 1, 2), (native(), 2, 1)] {
            for protocol in [Protocol::Http, Protocol::Tcp] {
                let text = configuration(protocol, PORTS, &shell, true).unwrap();
                let ports = |port: u16| text.matches(&format!("port_value: {port} }}")).count();
                assert_eq!(
                    [10_000, 9901, 7002, 8081].map(ports),
                    [0; 4],
                    "{protocol:?}"
                );
                let moved = [7001, 12, 13, 14].map(ports);
                assert_eq!(moved, [1, admin, 1, 1], "{protocol:?}, {shell:?}");
                assert_eq!(text.matches("filename: \"/else where/f\"").count(), loaded);
                assert!(
                    text.contains("allow_paths") && text.contains("cluster_name: unitring_xds")
                );
            }
        }
    }

    #[test]
    fn an_envoy_that_does_not_know_allow_paths_is_given_none() {
        for protocol in [Protocol::Http, Protocol::Tcp] {
            let text = configuration(protocol, PORTS, &filter(), false).unwrap();
            assert!(!text.contains("allow_paths:") && !text.contains("- exact: /ready"));
            assert!(text.contains("static_resources:\n  listeners:\n    - name: ingress"));
        }
    }
}
