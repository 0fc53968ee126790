//! The text format of Prometheus, version 0.0.4: families with their help and type, samples, labels.
//!
//! `promtool check metrics` reads this format, and every scraper does. The library writes OpenMetrics, where a
//! counter's family lacks the suffix of its samples; [`Page::library`] translates that.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// The type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

impl Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        })
    }
}

/// A page as it grows.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    pub(super) fn into_text(self) -> String {
        self.0
    }

    /// Begins a family; its samples follow.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) -> fmt::Result {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        writeln!(
            self.0,
            "# HELP {name} {help}.\n# TYPE {name} {kind}",
            help = help.trim_end_matches('.')
        )
    }

    /// A sample of the family that was begun last.
    pub(super) fn sample(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        value: impl Display,
    ) -> fmt::Result {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            write!(self.0, "{}{label}=\"", if at == 0 { '{' } else { ',' })?;
            escape(&mut self.0, text);
            self.0.push('"');
        }
        let end = if labels.is_empty() { "" } else { "}" };
        writeln!(self.0, "{end} {value}")
    }

    /// A family of one sample without labels.
    pub(super) fn single(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        value: impl Display,
    ) -> fmt::Result {
        self.family(name, kind, help)?;
        self.sample(name, &[], value)
    }

    /// The families of a registry. `help` may replace the help of a family.
    pub(super) fn library(
        &mut self,
        registry: &Registry,
        help: impl Fn(&str) -> Option<String>,
    ) -> fmt::Result {
        let mut written = String::new();
        encode(&mut written, registry)?;
        let mut helps: BTreeMap<&str, &str> = BTreeMap::new();
        for line in written.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                helps.extend(rest.split_once(' '));
            } else if let Some((name, kind)) = type_of(line) {
                let known = helps.get(name).copied().unwrap_or_default();
                let said = help(name).unwrap_or_else(|| known.trim_end_matches('.').to_owned());
                let total = if kind == "counter" { "_total" } else { "" };
                writeln!(
                    self.0,
                    "# HELP {name}{total} {said}.\n# TYPE {name}{total} {kind}"
                )?;
            } else if !line.starts_with('#') {
                self.0.push_str(line);
                self.0.push('\n');
            }
        }
        Ok(())
    }
}

fn type_of(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("# TYPE ")?.split_once(' ')
}

/// Escapes a label's value.
fn escape(text: &mut String, value: &str) {
    for char in value.chars() {
        match char {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            char => text.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn a_label_can_have_any_text() {
        let mut page = Page::default();
        page.family("a", Kind::Gauge, "Some.").unwrap();
        page.sample("a", &[("x", "1\"\\\n2"), ("y", "é|{}")], 0.5)
            .unwrap();
        let text = "# HELP a Some.\n# TYPE a gauge\na{x=\"1\\\"\\\\\\n2\",y=\"é|{}\"} 0.5\n";
        assert_eq!(page.into_text(), text);
    }

    #[test]
    fn a_counter_of_the_library_has_the_name_of_its_samples() {
        let (mut registry, mut page) = (Registry::default(), Page::default());
        registry.register("done", "How many", Counter::<u64>::default());
        page.library(&registry, |_| None).unwrap();
        let text = "# HELP done_total How many.\n# TYPE done_total counter\ndone_total 0\n";
        assert_eq!(page.into_text(), text);
    }
}
