//! Values that no log and no output shows.

use std::fmt;

/// A value that appears in no log and no output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// A URL that is displayed without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(String);

/// The fields of a query that may be shown. Of any other, only the name is.
const SHOWN: [&str; 6] = [
    "channel_max",
    "connection_timeout",
    "db",
    "frame_max",
    "heartbeat",
    "protocol",
];

/// The rule of a URL whose password ends where it should not.
pub(super) const ENCODED: &str =
    "must have a password in which / ? # and @ are percent-encoded, as %2F";

impl Url {
    /// Wraps a URL without a check; a connection to it shows whether it is valid.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The URL with its password.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The URL without a login: where it leads to. Two URLs with the same place differ in their logins alone.
    pub(crate) fn place(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return self.0.clone();
        };
        // As [`fmt::Display`] does: anything before the last one may belong to a password.
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        let place = place.split('#').next().unwrap_or_default();
        let (place, query) = place.split_once('?').unwrap_or((place, ""));
        let fields = query.split('&').filter(|field| {
            let name = field.split('=').next().unwrap_or_default();
            SHOWN.contains(&name)
        });
        let fields: Vec<&str> = fields.collect();
        format!("{scheme}://{place}?{}", fields.join("&"))
    }

    /// Whether an `@` comes after the part that a parser reads as user, password and host: then a character of
    /// the password ended that part, and the rest of the password would count as a path.
    pub(super) fn has_late_at(&self) -> bool {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        rest.get(end..).is_some_and(|after| after.contains('@'))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return f.write_str("***");
        };
        write!(f, "{scheme}://")?;
        // The last one: anything before an `@` may belong to a password.
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        match login.map(|login| login.split_once(':')) {
            Some(Some((user, _))) => write!(f, "{user}:***@")?,
            Some(None) => f.write_str("***@")?,
            None => {}
        }
        // No broker or store reads a fragment.
        let place = place.split('#').next().unwrap_or_default();
        let (place, query) = place.split_once('?').unwrap_or((place, ""));
        f.write_str(place)?;
        for (index, field) in query.split('&').filter(|text| !text.is_empty()).enumerate() {
            let name = field.split('=').next().unwrap_or_default();
            let separator = if index == 0 { '?' } else { '&' };
            match SHOWN.contains(&name) {
                true => write!(f, "{separator}{field}")?,
                false => write!(f, "{separator}{name}=***")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_anything_that_may_be_a_password() {
        for (url, shown) in [
            ("redis://h:1/2", "redis://h:1/2"),
            ("redis://me:s3cret@h:1/2", "redis://me:***@h:1/2"),
            ("redis://:s3cret@h", "redis://:***@h"),
            ("redis://s3cret@h", "redis://***@h"),
            ("amqp://me:s3/cr?et@h/v", "amqp://me:***@h/v"),
            ("amqp://me:s3@cret@h", "amqp://me:***@h"),
            (
                "unix:///run/r.sock?db=2&pass=s3cret&user=me",
                "unix:///run/r.sock?db=2&pass=***&user=***",
            ),
            ("amqp://h?heartbeat=10", "amqp://h?heartbeat=10"),
            ("redis://u:p@h#s3cret", "redis://u:***@h"),
            ("s3cret", "***"),
        ] {
            assert_eq!(Url::new(url).to_string(), shown);
        }
    }

    #[test]
    fn urls_that_lead_to_one_place_differ_in_their_logins_alone() {
        let place = |url: &str| Url::new(url).place();
        for (one, other) in [
            ("redis://h:1/2", "redis://:new@h:1/2"),
            ("redis://a:old@h:1/2", "redis://b:n@w@h:1/2"),
            ("amqp://u:p@h/v?heartbeat=1", "amqp://u:q@h/v?heartbeat=1"),
            (
                "unix:///r.sock?db=2&pass=a",
                "unix:///r.sock?db=2&user=u&pass=b",
            ),
        ] {
            assert_eq!(place(one), place(other));
        }
        for other in ["redis://h:2/2", "redis://h:1/3", "rediss://h:1/2"] {
            assert_ne!(place("redis://h:1/2"), place(other));
        }
        assert!(!place("redis://u:s3cret@h").contains("s3cret"));
    }

    #[test]
    fn a_password_that_ends_too_early_is_noticed() {
        for url in [
            "amqp://me:s3/cret@h",
            "amqp://me:12?3@h/v",
            "amqp://a:b#c@h",
        ] {
            assert!(Url::new(url).has_late_at(), "{url}");
        }
        for url in ["amqp://me:s3%2Fcret@h/v", "redis://h/2", "redis://u:p@h"] {
            assert!(!Url::new(url).has_late_at(), "{url}");
        }
    }
}
