//! Values that the VMs of a process share through Envoy's shared data → bytes, and back.
//!
//! Only the same version of the filter reads what it wrote, so a value is written field by field,
//! without names, and the first bytes name the version. JSON would cost the filter a reader and a
//! writer for each type.

mod others;

use std::num::NonZeroU32;

/// The prefix of all stored bytes.
const VERSION: &str = concat!("unitring ", env!("CARGO_PKG_VERSION"), "\n");

/// A value that can be kept in shared data.
pub trait Stored: Sized {
    /// Appends the value.
    fn write(&self, to: &mut Vec<u8>);

    /// Takes the value off the front of `from`; `None` if the bytes are no such value.
    fn read(from: &mut &[u8]) -> Option<Self>;
}

/// The bytes of a value, with the version.
pub fn encode(value: &impl Stored) -> Vec<u8> {
    let mut bytes = begin();
    value.write(&mut bytes);
    bytes
}

/// The version alone, which a value follows.
pub(crate) fn begin() -> Vec<u8> {
    VERSION.as_bytes().to_vec()
}

/// The value of these bytes; `None` unless they are exactly one value of this version.
pub fn decode<T: Stored>(bytes: &[u8]) -> Option<T> {
    whole(content(bytes)?)
}

/// The content after the version; `None` if the version is another.
pub(crate) fn content(bytes: &[u8]) -> Option<&[u8]> {
    bytes.strip_prefix(VERSION.as_bytes())
}

/// The value that all of these bytes are.
pub(crate) fn whole<T: Stored>(mut bytes: &[u8]) -> Option<T> {
    let value = T::read(&mut bytes)?;
    bytes.is_empty().then_some(value)
}

/// Appends a value with the length of its bytes before it.
pub(crate) fn write_block(value: &impl Stored, to: &mut Vec<u8>) {
    let at = to.len();
    write_length(0, to);
    value.write(to);
    let written = to.len().saturating_sub(at).saturating_sub(LENGTH_BYTES);
    let length = u64::try_from(written).unwrap_or(u64::MAX).to_le_bytes();
    if let Some(place) = to.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = length;
    }
}

/// Takes the bytes of such a value off the front of `from`.
pub(crate) fn take_block<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(u64::read(from)?).ok()?;
    let (block, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(block)
}

/// The bytes of a length.
const LENGTH_BYTES: usize = size_of::<u64>();

/// Implements [`Stored`] for a struct: its fields, in this order.
macro_rules! stored {
    ($type:ident { $($field:ident),* }) => {
        impl $crate::stored::Stored for $type {
            fn write(&self, to: &mut Vec<u8>) {
                $($crate::stored::Stored::write(&self.$field, to);)*
            }

            fn read(from: &mut &[u8]) -> Option<Self> {
                Some(Self {
                    $($field: $crate::stored::Stored::read(from)?,)*
                })
            }
        }
    };
}
pub(crate) use stored;

impl Stored for u64 {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.to_le_bytes());
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let (bytes, rest) = from.split_first_chunk()?;
        *from = rest;
        Some(u64::from_le_bytes(*bytes))
    }
}

impl Stored for u32 {
    fn write(&self, to: &mut Vec<u8>) {
        u64::from(*self).write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        u64::read(from)?.try_into().ok()
    }
}

impl Stored for NonZeroU32 {
    fn write(&self, to: &mut Vec<u8>) {
        self.get().write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        NonZeroU32::new(u32::read(from)?)
    }
}

impl Stored for bool {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(u8::from(*self));
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        match byte {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Stored for String {
    fn write(&self, to: &mut Vec<u8>) {
        write_text(self, to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let length = usize::try_from(u64::read(from)?).ok()?;
        let (bytes, rest) = from.split_at_checked(length)?;
        *from = rest;
        Some(str::from_utf8(bytes).ok()?.to_owned())
    }
}

pub(crate) fn write_length(length: usize, to: &mut Vec<u8>) {
    // A usize fits a u64 on every target of this workspace (wasm32 and 64-bit).
    u64::try_from(length).unwrap_or(u64::MAX).write(to);
}

/// In the form that `String` reads.
fn write_text(text: &str, to: &mut Vec<u8>) {
    write_length(text.len(), to);
    to.extend_from_slice(text.as_bytes());
}

impl<T: Stored> Stored for Option<T> {
    fn write(&self, to: &mut Vec<u8>) {
        self.is_some().write(to);
        if let Some(value) = self {
            value.write(to);
        }
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        if bool::read(from)? {
            return T::read(from).map(Some);
        }
        Some(None)
    }
}

impl<T: Stored> Stored for Vec<T> {
    fn write(&self, to: &mut Vec<u8>) {
        write_length(self.len(), to);
        for value in self {
            value.write(to);
        }
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let mut values = Vec::new();
        for _ in 0..u64::read(from)? {
            values.push(T::read(from)?);
        }
        Some(values)
    }
}

#[cfg(test)]
mod tests;
