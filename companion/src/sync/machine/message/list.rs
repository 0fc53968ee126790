//! Lists and maps of a message: each has a bound, beyond which nothing is kept in memory, and an entry can be read
//! alone, so that one that cannot be read condemns no other.

use std::fmt::{self, Display};
use std::marker::PhantomData;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::aside::Asides;

/// An entry that is read together with its list.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Whole<T>(T);

/// The text of an entry, which is read alone.
#[derive(Clone, Copy, Deserialize)]
#[serde(transparent)]
pub(super) struct Alone<'a>(#[serde(borrow)] &'a RawValue);

/// An entry that cannot be read, and why.
pub(super) struct Bad<'a> {
    pub(super) text: Alone<'a>,
    pub(super) why: serde_json::Error,
}

/// How a list has its entries.
pub(super) trait Entry<'a, T> {
    fn read(self) -> Result<T, Bad<'a>>;
}

impl<'a, T> Entry<'a, T> for Whole<T> {
    fn read(self) -> Result<T, Bad<'a>> {
        Ok(self.0)
    }
}

impl<'a, T: Deserialize<'a>> Entry<'a, T> for Alone<'a> {
    fn read(self) -> Result<T, Bad<'a>> {
        serde_json::from_str(self.0.get()).map_err(|why| Bad { text: self, why })
    }
}

impl<'a> Alone<'a> {
    pub(super) fn json(self) -> &'a str {
        self.0.get()
    }

    /// A string, or the text as it is where it is no string.
    pub(super) fn text(self) -> String {
        let string = serde_json::from_str::<String>(self.json()).ok();
        string.unwrap_or_else(|| self.json().trim_matches('"').to_owned())
    }
}

/// The first `MAX` entries of a list.
pub(super) struct List<E, const MAX: usize> {
    entries: Vec<E>,
    /// How many more there are.
    over: u64,
}

impl<E, const MAX: usize> Default for List<E, MAX> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            over: 0,
        }
    }
}

impl<E, const MAX: usize> List<E, MAX> {
    /// The entries that can be read. The others are set aside, each by the name that `named` gives it.
    pub(super) fn good<'a, T>(
        self,
        what: &dyn Display,
        aside: &mut Asides,
        mut named: impl FnMut(&Bad<'a>) -> String,
    ) -> Vec<T>
    where
        E: Entry<'a, T>,
    {
        aside.over(what, MAX, self.over);
        let entries = self.entries.into_iter();
        let good = entries.filter_map(|entry| match entry.read() {
            Ok(good) => Some(good),
            Err(bad) => {
                let name = named(&bad);
                aside.add(name, bad.why);
                None
            }
        });
        good.collect()
    }
}

impl<'de, E: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<E, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Elements(PhantomData))
    }
}

struct Elements<E, const MAX: usize>(PhantomData<E>);

impl<'de, E: Deserialize<'de>, const MAX: usize> Visitor<'de> for Elements<E, MAX> {
    type Value = List<E, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut read = List::default();
        while read.entries.len() < MAX {
            match list.next_element()? {
                Some(entry) => read.entries.push(entry),
                None => return Ok(read),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            read.over += 1;
        }
        Ok(read)
    }
}

/// The first `MAX` entries of a map, as text.
pub(super) struct Map<'a, const MAX: usize> {
    entries: Vec<(Alone<'a>, Alone<'a>)>,
    over: u64,
}

impl<const MAX: usize> Default for Map<'_, MAX> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            over: 0,
        }
    }
}

impl<'a, const MAX: usize> Map<'a, MAX> {
    /// The entries that can be read; the others are set aside.
    pub(super) fn good<K, V, M>(self, what: &dyn Display, aside: &mut Asides) -> M
    where
        K: Deserialize<'a>,
        V: Deserialize<'a>,
        M: FromIterator<(K, V)>,
    {
        aside.over(what, MAX, self.over);
        let entries = self.entries.into_iter();
        let good = entries.filter_map(|(key, value)| match (key.read(), value.read()) {
            (Ok(key), Ok(value)) => Some((key, value)),
            (Err(bad), _) | (_, Err(bad)) => {
                aside.add(format_args!("{what}: {}", short(key)), bad.why);
                None
            }
        });
        good.collect()
    }
}

/// The beginning of an entry's text, for its name.
pub(super) fn short(entry: Alone<'_>) -> String {
    entry.text().chars().take(64).collect()
}

impl<'de: 'a, 'a, const MAX: usize> Deserialize<'de> for Map<'a, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

struct Pairs<'a, const MAX: usize>(PhantomData<&'a ()>);

impl<'de: 'a, 'a, const MAX: usize> Visitor<'de> for Pairs<'a, MAX> {
    type Value = Map<'a, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut read = Map::default();
        while let Some((key, value)) = map.next_entry::<Alone<'a>, Alone<'a>>()? {
            if read.entries.len() < MAX {
                read.entries.push((key, value));
            } else {
                read.over += 1;
            }
        }
        Ok(read)
    }
}
