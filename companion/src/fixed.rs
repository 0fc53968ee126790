//! Fixed data: records that are the same in every unit, and change only with a new version of the
//! file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha1::{Digest as _, Sha1};
use unitring_protocol::ids::{DatasetName, RecordKey};
use unitring_protocol::record::VALUE_BYTES_MAX;

use crate::files;

/// The largest file, in bytes: it is loaded in one step.
pub(crate) const BYTES_MAX: u64 = 64 << 20;

/// The file of the fixed data is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct FixedDataError {
    path: PathBuf,
    /// The line, and the reason.
    why: String,
}

/// The content of the file: values by dataset and key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FixedData {
    /// All values.
    pub datasets: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    dataset: DatasetName,
    key: RecordKey,
    value: String,
}

impl FixedData {
    /// Reads a file of JSON Lines: `{"dataset": "currencies", "key": "EUR", "value": "2"}`.
    ///
    /// # Errors
    /// [`FixedDataError`] with the line.
    pub fn read(path: &Path) -> Result<Self, FixedDataError> {
        let wrong = |why: String| FixedDataError {
            path: path.to_owned(),
            why,
        };
        let size = fs::metadata(path).map_err(|error| wrong(files::why(&error)))?;
        if size.len() > BYTES_MAX {
            return Err(wrong(format!("must be at most {BYTES_MAX} bytes")));
        }
        let text = fs::read_to_string(path).map_err(|error| wrong(files::why(&error)))?;
        Self::parse(&text).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut data = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() {
                continue;
            }
            let line: Line =
                serde_json::from_str(line).map_err(|error| format!("line {number}: {error}"))?;
            if line.value.len() > VALUE_BYTES_MAX {
                return Err(format!(
                    "line {number}: the value must be at most {VALUE_BYTES_MAX} bytes"
                ));
            }
            let dataset = data.datasets.entry(line.dataset.to_string()).or_default();
            let key = line.key.to_string();
            if dataset.insert(key, line.value).is_some() {
                let (dataset, key) = (line.dataset, line.key);
                return Err(format!("line {number}: {dataset}/{key} occurs twice"));
            }
        }
        Ok(data)
    }

    /// The checksum of the values, which does not depend on the order of the lines.
    pub fn checksum(&self) -> String {
        let mut hash = Sha1::new();
        for (dataset, values) in &self.datasets {
            for (key, value) in values {
                for part in [dataset, key, value] {
                    hash.update(part.len().to_be_bytes());
                    hash.update(part.as_bytes());
                }
            }
        }
        let sum = hash.finalize();
        sum.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// How many values there are.
    pub fn count(&self) -> usize {
        self.datasets.values().map(BTreeMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_of_the_values_and_not_of_the_file() {
        let one = r#"{"dataset": "currencies", "key": "EUR", "value": "2"}"#;
        let two = r#"{"dataset": "currencies", "key": "JPY", "value": "0"}"#;
        let data = |lines: [&str; 2]| FixedData::parse(&lines.join("\n\n")).unwrap();
        assert_eq!(data([one, two]), data([two, one]));
        assert_eq!(data([one, two]).checksum(), data([two, one]).checksum());
        assert_ne!(data([one, ""]).checksum(), data([two, ""]).checksum());
        assert_eq!(data([one, two]).count(), 2);
    }

    #[test]
    fn a_bad_line_is_named() {
        let one = r#"{"dataset": "currencies", "key": "EUR", "value": "2"}"#;
        let twice = FixedData::parse(&format!("{one}\n{one}")).unwrap_err();
        assert_eq!(twice, "line 2: currencies/EUR occurs twice");
        for bad in [
            "{",
            r#"{"dataset": "a b", "key": "k", "value": ""}"#,
            r#"{"key": "k"}"#,
        ] {
            let error = FixedData::parse(&format!("{one}\n\n{bad}")).unwrap_err();
            assert!(error.starts_with("line 3: "), "{error}");
        }
    }
}
