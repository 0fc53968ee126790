//! The value of `x-unitring-update` → announced changes of records.
//!
//! ```text
//! updates   = update *( "," update )
//! update    = dataset "/" key *( ";" parameter )
//! key       = 1*( pchar / "/" )            ; RFC 3986, without "," and ";"
//! parameter = "ttl=" 1*DIGIT ("ms" / "s" / "m" / "h") / "delete" / "body"
//! ```
//!
//! Spaces and tabs may stand around `,` and `;`, and elements of the list may be empty (RFC 9110,
//! section 5.6.1). A malformed update is left out, and the others are used.

use std::fmt;

use unitring_protocol::ids::{DatasetName, RecordKey};
use unitring_protocol::updates::TTL_MS_MAX;

/// Most updates that one answer announces.
pub const ANNOUNCED_MAX: usize = 64;

/// A change of a record that an answer announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// The dataset of the record.
    pub dataset: DatasetName,
    /// Its key, decoded.
    pub key: RecordKey,
    /// The change.
    pub change: Change,
}

/// The operation of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Puts a value: the answer's body, or else an empty one.
    Put {
        /// Time to live, in ms.
        ttl_ms: Option<u64>,
        /// Whether the value is the answer's body.
        body: bool,
    },
    /// Deletes the record.
    Delete,
}

/// Why an update is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// No `/` after the dataset.
    NoKey,
    /// The dataset is no name of one.
    Dataset,
    /// The key has a character that must be percent-encoded, or `%` without two hex digits.
    Encoding,
    /// The decoded key is no key.
    Key,
    /// A parameter that is none of `ttl`, `delete` and `body`, or one of these with a wrong value.
    Parameter,
    /// The time to live is no duration from 1ms to ten years.
    Ttl,
    /// A parameter twice, or `delete` beside another.
    Conflict,
    /// More than [`ANNOUNCED_MAX`] updates.
    TooMany,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoKey => "must be <dataset>/<key>",
            Self::Dataset => "the dataset must be 1 to 64 letters, digits, '.', '_' or '-'",
            Self::Encoding => "the key must be percent-encoded as in a URL's path",
            Self::Key => "the key must be 1 to 512 bytes of text without control characters",
            Self::Parameter => "parameters are ttl=<duration>, delete and body",
            Self::Ttl => "ttl must be a duration from 1ms to ten years, as 60s",
            Self::Conflict => "a parameter twice, or delete beside another",
            Self::TooMany => "more than 64 updates in one answer",
        })
    }
}

/// The updates that an answer announces.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// The changes, in their order.
    pub updates: Vec<Announced>,
    /// How many updates were malformed.
    pub malformed: u64,
    /// The first of them, and why.
    pub first_malformed: Option<(String, Malformed)>,
}

impl Announcement {
    /// Reads all lines of the header.
    pub fn read<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut announcement = Self::default();
        for line in lines {
            for text in line.split(|byte| *byte == b',') {
                let text = trim(text);
                if !text.is_empty() {
                    announcement.add(text);
                }
            }
        }
        announcement
    }

    /// Whether a change needs the answer's body.
    pub fn needs_body(&self) -> bool {
        let needs = |change| matches!(change, Change::Put { body: true, .. });
        self.updates.iter().any(|update| needs(update.change))
    }

    fn add(&mut self, text: &[u8]) {
        let read = match self.updates.len() {
            ANNOUNCED_MAX.. => Err(Malformed::TooMany),
            _ => update(text),
        };
        match read {
            Ok(update) => self.updates.push(update),
            Err(why) => {
                self.malformed = self.malformed.saturating_add(1);
                self.first_malformed
                    .get_or_insert_with(|| (shown(text), why));
            }
        }
    }
}

/// The text for a log line: its first characters, without any that could break the line.
fn shown(text: &[u8]) -> String {
    const SHOWN_MAX: usize = 80;
    let text = text.get(..SHOWN_MAX).unwrap_or(text);
    text.escape_ascii().to_string()
}

fn trim(text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().position(|byte| !is_space(byte));
    let end = text.iter().rposition(|byte| !is_space(byte));
    match (start, end) {
        (Some(start), Some(end)) => text.get(start..=end).unwrap_or_default(),
        _ => &[],
    }
}

fn update(text: &[u8]) -> Result<Announced, Malformed> {
    let mut parts = text.split(|byte| *byte == b';').map(trim);
    let name = parts.next().unwrap_or_default();
    let slash = name.iter().position(|byte| *byte == b'/');
    let (dataset, key) = slash
        .and_then(|at| name.split_at_checked(at))
        .ok_or(Malformed::NoKey)?;
    let dataset = str::from_utf8(dataset).map_err(|_| Malformed::Dataset)?;
    let dataset = dataset.parse().map_err(|_| Malformed::Dataset)?;
    let key = decoded(key.get(1..).unwrap_or_default())?;
    let key = RecordKey::try_from(key).map_err(|_| Malformed::Key)?;
    let change = change(parts)?;
    Ok(Announced {
        dataset,
        key,
        change,
    })
}

fn change<'a>(parameters: impl Iterator<Item = &'a [u8]>) -> Result<Change, Malformed> {
    let (mut ttl_ms, mut delete, mut body) = (None, false, false);
    for parameter in parameters {
        let is_new = match parameter {
            b"delete" => !std::mem::replace(&mut delete, true),
            b"body" => !std::mem::replace(&mut body, true),
            _ => {
                let digits = parameter.strip_prefix(b"ttl=");
                let duration = millis(digits.ok_or(Malformed::Parameter)?);
                let duration = duration.filter(|ms| (1..=TTL_MS_MAX).contains(ms));
                ttl_ms.replace(duration.ok_or(Malformed::Ttl)?).is_none()
            }
        };
        if !is_new {
            return Err(Malformed::Conflict);
        }
    }
    match (delete, ttl_ms, body) {
        (false, ttl_ms, body) => Ok(Change::Put { ttl_ms, body }),
        (true, None, false) => Ok(Change::Delete),
        (true, _, _) => Err(Malformed::Conflict),
    }
}

/// A duration as the companion's API writes it.
fn millis(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = str::from_utf8(number).ok()?.parse().ok()?;
    let unit_ms = match unit {
        b"ms" => 1,
        b"s" => 1_000,
        b"m" => 60_000,
        b"h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit_ms)
}

/// Decodes a path's characters, and takes no other.
fn decoded(key: &[u8]) -> Result<String, Malformed> {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || hex(*rest.next()?);
                let byte = digit().and_then(|high| Some(high << 4 | digit()?));
                byte.ok_or(Malformed::Encoding)?
            }
            byte if is_of_a_path(*byte) => *byte,
            _ => return Err(Malformed::Encoding),
        });
    }
    String::from_utf8(bytes).map_err(|_| Malformed::Key)
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

/// RFC 3986, section 3.3, without the two characters that have a meaning here.
fn is_of_a_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+=:@/".contains(&byte)
}

#[cfg(test)]
mod tests;
