//! A request's headers as Envoy hands them over: one block of bytes, read in place.
//!
//! A list of strings would cost twenty allocations for each request, to read two or three of them.
//!
//! The block has the number of headers, then the lengths of each name and value, all as 32 bits in
//! little-endian order, then names and values, each followed by a zero byte. Names are in lower
//! case, repeated headers stay separate, and values are arbitrary bytes.

/// The headers of one request or answer.
#[derive(Debug, Default)]
pub struct Headers {
    block: Vec<u8>,
}

/// Size of a length, in bytes.
const LENGTH: usize = 4;

impl Headers {
    /// Wraps Envoy's block. Of a truncated block, the headers before the cut count.
    pub fn new(block: Vec<u8>) -> Self {
        Self { block }
    }

    /// The block, as Envoy takes it, too.
    pub fn block(&self) -> &[u8] {
        &self.block
    }

    /// Names and values, in Envoy's order.
    pub fn iter(&self) -> Iter<'_> {
        let (lengths, texts) = length(&self.block)
            .and_then(|(count, rest)| {
                let both = count.checked_mul(2 * LENGTH)?;
                rest.split_at_checked(both)
            })
            .unwrap_or_default();
        Iter { lengths, texts }
    }

    /// All values of a name, in Envoy's order.
    pub fn values<'a>(&'a self, wanted: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let wanted = wanted.as_bytes();
        self.iter()
            .filter(move |(name, _)| *name == wanted)
            .map(|(_, value)| value)
    }
}

/// Builds the block as Envoy would.
impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(list: I) -> Self {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        let (mut count, mut lengths, mut texts) = (0u32, Vec::new(), Vec::new());
        for (name, value) in list {
            count = count.saturating_add(1);
            for text in [name.as_ref(), value.as_ref()] {
                lengths.extend(length(text));
                texts.extend(text);
                texts.push(0);
            }
        }
        Self::new([&count.to_le_bytes(), &*lengths, &*texts].concat())
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Iterator over names and values.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    lengths: &'a [u8],
    texts: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = length(self.lengths)?;
        let (value, rest) = length(rest)?;
        self.lengths = rest;
        Some((self.text(name)?, self.text(value)?))
    }
}

impl<'a> Iter<'a> {
    #[inline]
    fn text(&mut self, length: usize) -> Option<&'a [u8]> {
        let (text, rest) = self.texts.split_at_checked(length)?;
        self.texts = rest.get(1..)?;
        Some(text)
    }
}

#[inline]
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
    Some((usize::try_from(u32::from_le_bytes(*length)).ok()?, rest))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn headers<N: AsRef<[u8]>, V: AsRef<[u8]>>(list: &[(N, V)]) -> Headers {
        list.iter().map(|(name, value)| (name, value)).collect()
    }

    #[test]
    fn values_are_found_by_their_name_in_their_order() {
        let headers = headers(&[("a", "1"), ("b", ""), ("a", "2"), ("aa", "3")]);
        let a: Vec<&[u8]> = headers.values("a").collect();
        assert_eq!(a, [b"1", b"2"]);
        assert_eq!(headers.values("b").next(), Some(&b""[..]));
        assert_eq!(headers.values("c").next(), None);
    }

    proptest! {
        #[test]
        fn what_envoy_writes_is_read(list: Vec<(Vec<u8>, Vec<u8>)>) {
            let headers = headers(&list);
            let read: Vec<_> = headers.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
            prop_assert_eq!(read, list);
        }

        #[test]
        fn a_block_that_is_cut_off_has_the_headers_before_the_cut(
            list: Vec<(Vec<u8>, Vec<u8>)>, cut: prop::sample::Index,
        ) {
            let whole = headers(&list).block;
            let part = Headers::new(whole[..cut.index(whole.len())].to_vec());
            let read: Vec<_> = part.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
            prop_assert!(list.starts_with(&read));
        }

        #[test]
        fn any_bytes_end(block: Vec<u8>) {
            let size = block.len();
            prop_assert!(Headers::new(block).iter().count() <= size);
        }
    }
}
