//! The commands to try that the demo prints. Pure.

use super::Protocol;
use super::ports::UnitPorts;

/// A command, and what it shows.
type Suggestion = (String, &'static str);

/// Commands for one unit. `explains`: whether answers tell why an instance was chosen.
pub(super) fn in_one_unit(protocol: Protocol, explains: bool, ports: UnitPorts) -> String {
    let suggestions = match protocol {
        Protocol::Http => http(explains, ports),
        Protocol::Tcp => tcp(ports),
    };
    let width = suggestions.iter().map(|(command, _)| command.len()).max();
    let width = width.unwrap_or_default();
    let lines = suggestions
        .iter()
        .map(|(command, why)| format!("  {command:<width$}  # {why}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn http(explains: bool, ports: UnitPorts) -> Vec<Suggestion> {
    let (companion, listener) = (ports.companion_address(), ports.listener);
    vec![
        (
            format!("curl -i -H 'x-user-id: ada' 127.0.0.1:{listener}/"),
            match explains {
                true => "who answers, and why",
                false => "who answers",
            },
        ),
        (
            format!("curl '{companion}/v1/services/orders/locate?key=ada'"),
            "the same, without a request",
        ),
        add(ports),
        (kill(ports), "kills b: callers do not notice"),
        (loads(ports), "the loads of all instances"),
        events(ports),
        (
            format!("curl -X PUT {companion}/v1/data/profiles/ada -d hello"),
            "writes a record",
        ),
        (format!("curl {companion}/v1/data/profiles/ada"), "reads it"),
    ]
}

fn tcp(ports: UnitPorts) -> Vec<Suggestion> {
    let companion = ports.companion_address();
    vec![
        (connect(ports), "which instance answers"),
        (
            format!(
                "echo quit | curl -s --interface 127.0.0.7 telnet://127.0.0.1:{}",
                ports.listener
            ),
            "another client address, another key",
        ),
        (
            format!("curl '{companion}/v1/services/orders/locate?key=127.0.0.7'"),
            "the same, without a connection",
        ),
        (
            format!("nc 127.0.0.1 {}", ports.listener),
            "in another terminal: echoes lines, until `quit`",
        ),
        (loads(ports), "the loads: open connections"),
        add(ports),
        (
            kill(ports),
            "kills b: its connections end, new ones go to others",
        ),
        events(ports),
    ]
}

/// An instance greets and closes. Without `quit` curl would wait for more.
fn connect(ports: UnitPorts) -> String {
    format!("echo quit | curl -s telnet://127.0.0.1:{}", ports.listener)
}

fn add(ports: UnitPorts) -> Suggestion {
    (
        format!("curl -X POST 127.0.0.1:{}/instances", ports.control),
        "adds e, which takes its share of keys",
    )
}

fn kill(ports: UnitPorts) -> String {
    format!("curl -X DELETE 127.0.0.1:{}/instances/b", ports.control)
}

fn loads(ports: UnitPorts) -> String {
    format!("curl {}/v1/services/orders", ports.companion_address())
}

fn events(ports: UnitPorts) -> Suggestion {
    let companion = ports.companion_address();
    (
        format!("curl '{companion}/v1/events?format=json'"),
        "what happened to them",
    )
}

/// Commands for two units; the first is called `name`.
pub(super) fn in_two_units(
    protocol: Protocol,
    name: &str,
    here: UnitPorts,
    there: UnitPorts,
) -> String {
    let mut lines = match protocol {
        Protocol::Http => Vec::new(),
        Protocol::Tcp => vec![
            "Connect in each unit:".to_owned(),
            format!("  {}", connect(here)),
            format!("  {}", connect(there)),
        ],
    };
    let (here, there) = (here.companion_address(), there.companion_address());
    lines.extend([
        "Write in one unit, read in the other:".to_owned(),
        format!("  curl -X PUT {here}/v1/data/profiles/ada -d 'written in {name}'"),
        format!("  curl {there}/v1/data/profiles/ada"),
        format!("  curl {here}/v1/units"),
    ]);
    lines.join("\n")
}
