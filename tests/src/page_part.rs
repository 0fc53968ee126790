//! A part of an Envoy configuration that a page shows, put into a shipped file, so that what the page says is tested.

use std::fs;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::config::EnvoyConfig;
use crate::programs;

/// The configuration with the block after `<!-- part: name -->` of this page of `docs/`: the fields of listeners and
/// clusters that it changes. Elements of lists are merged by their `name`; one whose name is new is added, and those
/// without one are merged by their place. A field that is `null` is left out, as Envoy reads it.
///
/// # Errors
/// The page has no such part, it is no YAML, or has an element at a place that the file does not have.
pub fn with(config: EnvoyConfig, page: &str, name: &str) -> Result<EnvoyConfig> {
    let part = part(page, name).with_context(|| format!("{page}: {name}"))?;
    config.edit(|bootstrap| {
        let resources = bootstrap.pointer_mut("/static_resources");
        merge(resources.context("no resources")?, part)
    })
}

fn part(page: &str, name: &str) -> Result<Value> {
    let text = fs::read_to_string(programs::root()?.join("docs").join(page))?;
    let mark = format!("<!-- part: {name} -->\n```yaml\n");
    let (_, rest) = text.split_once(&mark).context("no such part")?;
    let (part, _) = rest.split_once("\n```").context("no end")?;
    Ok(serde_yaml_ng::from_str(part)?)
}

fn merge(into: &mut Value, part: Value) -> Result<()> {
    match (into, part) {
        (Value::Object(into), Value::Object(part)) => {
            for (name, value) in part {
                merge(into.entry(name).or_insert(Value::Null), value)?;
            }
        }
        (Value::Array(into), Value::Array(part)) => {
            for (place, value) in part.into_iter().enumerate() {
                let found = match value.get("name") {
                    Some(name) => into.iter_mut().find(|one| one.get("name") == Some(name)),
                    None => into.get_mut(place),
                };
                match found {
                    Some(found) => merge(found, value)?,
                    None if value.get("name").is_some() => into.push(value),
                    None => bail!("not in the file: {value}"),
                }
            }
        }
        (into, part) => *into = part,
    }
    Ok(())
}
