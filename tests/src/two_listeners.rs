//! A second listener with a filter of its own for the same service.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::config::EnvoyConfig;

const SETTINGS: &str = "/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config/configuration/value";

/// Changes the filter's settings of a listener.
///
/// # Errors
/// The listener has no filter.
pub fn set(listener: &mut Value, name: &str, value: Value) -> Result<()> {
    let settings = listener.pointer_mut(SETTINGS).context("no settings")?;
    settings[name] = value;
    Ok(())
}

/// Adds a copy of the first listener on this port, with one setting of its filter changed.
///
/// # Errors
/// There is no listener, or it has no filter.
pub fn beside(config: EnvoyConfig, port: u16, name: &str, value: Value) -> Result<EnvoyConfig> {
    config.edit(|bootstrap| {
        let listeners = bootstrap.pointer_mut("/static_resources/listeners");
        let listeners = listeners.and_then(Value::as_array_mut).context("none")?;
        let mut other = listeners.first().context("no listener")?.clone();
        let fields = other.as_object_mut().context("no listener")?;
        fields.insert("name".to_owned(), json!("second"));
        let place = other.pointer_mut("/address/socket_address/port_value");
        *place.context("no port")? = json!(port);
        set(&mut other, name, value)?;
        listeners.push(other);
        Ok(())
    })
}
