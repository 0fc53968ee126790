//! A shipped file with instances from the companion's registry, as `envoy/eds.yaml` has them. Pure.
//!
//! Edited as text: nothing else in the program reads YAML, and the file that Envoy is given keeps
//! the comments of the shipped one.

use super::DemoError;

const SERVICE: &str = "    - name: orders";
const CLUSTERS: &str = "  clusters:";
const TYPE: &str = "      type:";
const INSTANCES: &str = "      load_assignment:";
/// The fields of `SERVICE` by which `eds.yaml` asks the companion.
const ASKS: [&str; 3] = [
    TYPE,
    "      ignore_health_on_host_removal:",
    "      eds_cluster_config:",
];

/// `tcp` with the node, the instances and the cluster of the companion that `eds` has.
pub(super) fn with_registry(tcp: &str, eds: &str) -> Result<String, DemoError> {
    let in_eds = block(eds, SERVICE)?;
    let mut asks = String::new();
    for field in ASKS {
        asks += &block(&in_eds, field)?;
    }
    let fixed = block(tcp, SERVICE)?;
    let without = fixed.replacen(&block(&fixed, INSTANCES)?, "", 1);
    let registered = without.replacen(&block(&without, TYPE)?, &asks, 1);
    let node = block(eds, "node:")?;
    let companion = block(eds, "    - name: unitring_xds")?;
    let clusters = block(tcp, CLUSTERS)?;
    let first = format!("{CLUSTERS}\n{companion}");
    let changed = clusters
        .replacen(&fixed, &registered, 1)
        .replacen(CLUSTERS, &first, 1);
    Ok(format!("{node}{}", tcp.replacen(&clusters, &changed, 1)))
}

/// The only line that begins so, and the lines after it that are indented further.
fn block(text: &str, first: &'static str) -> Result<String, DemoError> {
    let begins = |line: &&str| line.starts_with(first);
    if text.lines().filter(begins).count() != 1 {
        return Err(DemoError::Configuration(first));
    }
    let depth = |line: &str| line.len() - line.trim_start().len();
    let is_within = |line: &str| line.trim().is_empty() || depth(line) > depth(first);
    let lines = text.lines().skip_while(|line| !begins(line)).enumerate();
    let block = lines.take_while(|(index, line)| *index == 0 || is_within(line));
    let block: Vec<&str> = block.map(|(_, line)| line).collect();
    Ok(format!("{}\n", block.join("\n").trim_end_matches('\n')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = include_str!("../../../../envoy/tcp.yaml");
    const EDS: &str = include_str!("../../../../envoy/eds.yaml");

    /// The lines without comments, which say nothing to Envoy.
    fn lines(text: &str) -> Vec<&str> {
        let lines = text
            .lines()
            .map(|line| line.split(" #").next().unwrap().trim_end());
        let lines = lines.filter(|line| !line.trim_start().starts_with('#'));
        lines.filter(|line| !line.is_empty()).collect()
    }

    #[test]
    fn the_service_of_the_tcp_file_asks_the_companion_and_keeps_the_rest() {
        let text = with_registry(TCP, EDS).unwrap();
        let service = block(&text, SERVICE).unwrap();
        let (before, asks) = (block(TCP, SERVICE).unwrap(), block(EDS, SERVICE).unwrap());
        for field in ASKS {
            assert_eq!(
                block(&service, field).unwrap(),
                block(&asks, field).unwrap()
            );
        }
        assert!(service.contains("type: EDS") && service.contains("cluster_name: unitring_xds"));
        assert!(!service.contains("load_assignment") && !service.contains("STATIC"));
        let without = |text: &str, blocks: &[String]| {
            let gone = blocks.concat();
            let mut kept: Vec<String> = lines(text).into_iter().map(str::to_owned).collect();
            kept.retain(|line| !lines(&gone).contains(&line.as_str()));
            kept
        };
        let fixed = [TYPE, INSTANCES].map(|field| block(&before, field).unwrap());
        let asked = ASKS.map(|field| block(&asks, field).unwrap());
        assert_eq!(without(&service, &asked), without(&before, &fixed));
    }

    #[test]
    fn nothing_but_the_node_and_two_clusters_differs_from_the_tcp_file() {
        let text = with_registry(TCP, EDS).unwrap();
        assert!(text.starts_with("node: {"));
        let added = block(EDS, "    - name: unitring_xds").unwrap();
        let service = block(&text, SERVICE).unwrap();
        let back = text
            .replacen(&block(EDS, "node:").unwrap(), "", 1)
            .replacen(&added, "", 1)
            .replacen(&service, &block(TCP, SERVICE).unwrap(), 1);
        assert_eq!(lines(&back), lines(TCP));
        assert_eq!(
            lines(&text)
                .iter()
                .filter(|line| **line == CLUSTERS)
                .count(),
            1
        );
    }

    #[test]
    fn a_piece_that_is_not_there_or_there_twice_is_named() {
        let error = |text: &str| block(text, CLUSTERS).unwrap_err().to_string();
        assert!(error("listeners:\n").contains("`  clusters:`"));
        assert!(error("  clusters:\n  clusters:\n").contains("`  clusters:`"));
        assert_eq!(
            block("  clusters:\n    - a\n\n  b:\n", CLUSTERS).unwrap(),
            "  clusters:\n    - a\n"
        );
    }
}
