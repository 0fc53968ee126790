//! What to try, as the demo prints it. Pure.

use super::ports::UnitPorts;

/// Commands for one unit, each with what it shows.
pub(super) fn in_one_unit(ports: UnitPorts) -> String {
    let companion = ports.companion_address();
    let control = format!("127.0.0.1:{}", ports.control);
    let lines = [
        (
            format!("curl -i -H 'x-user-id: ada' 127.0.0.1:{}/", ports.listener),
            "who answers, and why",
        ),
        (
            format!("curl '{companion}/v1/services/orders/locate?key=ada'"),
            "the same, without a request",
        ),
        (
            format!("curl -X POST {control}/instances"),
            "adds e, which takes its share of keys",
        ),
        (
            format!("curl -X DELETE {control}/instances/b"),
            "kills b: callers do not notice",
        ),
        (
            format!("curl {companion}/v1/services/orders"),
            "the loads of all instances",
        ),
        (
            format!("curl '{companion}/v1/events?format=json'"),
            "what happened to them",
        ),
        (
            format!("curl -X PUT {companion}/v1/data/profiles/ada -d hello"),
            "writes a record",
        ),
        (format!("curl {companion}/v1/data/profiles/ada"), "reads it"),
    ];
    lines
        .map(|(command, why)| format!("  {command:<60} # {why}"))
        .join("\n")
}

/// Commands for two units; the first is called `name`.
pub(super) fn in_two_units(name: &str, here: UnitPorts, there: UnitPorts) -> String {
    let (here, there) = (here.companion_address(), there.companion_address());
    [
        "Write in one unit, read in the other:".to_owned(),
        format!("  curl -X PUT {here}/v1/data/profiles/ada -d 'written in {name}'"),
        format!("  curl {there}/v1/data/profiles/ada"),
        format!("  curl {here}/v1/units"),
    ]
    .join("\n")
}
