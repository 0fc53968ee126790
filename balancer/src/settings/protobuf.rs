//! The wire format of protobuf, as far as a `google.protobuf.Struct` needs it
//! (<https://protobuf.dev/programming-guides/encoding/>).
//!
//! Written by hand: a Struct needs few kinds of field, and a library for any message would be
//! larger than all the code that reads settings.

/// The content of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload<'a> {
    /// A varint.
    Number(u64),
    /// 64 bits, little-endian.
    Fixed(u64),
    /// Length-delimited: a string or a message.
    Bytes(&'a [u8]),
    /// 32 bits, which no field of a Struct has.
    Other,
}

/// Takes the next field and its number off a message; `None` if the message is malformed.
pub(super) fn take_field<'a>(message: &mut &'a [u8]) -> Option<(u64, Payload<'a>)> {
    let tag = take_number(message)?;
    let payload = match tag & 7 {
        0 => Payload::Number(take_number(message)?),
        1 => {
            let (bits, rest) = message.split_first_chunk()?;
            *message = rest;
            Payload::Fixed(u64::from_le_bytes(*bits))
        }
        2 => {
            let length = usize::try_from(take_number(message)?).ok()?;
            let (bytes, rest) = message.split_at_checked(length)?;
            *message = rest;
            Payload::Bytes(bytes)
        }
        5 => {
            let (_, rest) = message.split_first_chunk::<4>()?;
            *message = rest;
            Payload::Other
        }
        // Groups are obsolete, and no Struct has one.
        _ => return None,
    };
    Some((tag >> 3, payload))
}

/// A varint: seven bits per byte, lowest first; the eighth bit says that more bytes follow.
fn take_number(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_field_is_taken_with_its_number() {
        let bytes = [
            &[0x08, 0x96, 0x01][..],
            &[0x12, 0x02, b'h', b'i'],
            &[0x19, 1, 0, 0, 0, 0, 0, 0, 0],
            &[0x25, 1, 2, 3, 4],
        ]
        .concat();
        let mut message = bytes.as_slice();
        assert_eq!(take_field(&mut message), Some((1, Payload::Number(150))));
        assert_eq!(take_field(&mut message), Some((2, Payload::Bytes(b"hi"))));
        assert_eq!(take_field(&mut message), Some((3, Payload::Fixed(1))));
        assert_eq!(take_field(&mut message), Some((4, Payload::Other)));
        assert!(message.is_empty());
    }

    #[test]
    fn a_broken_field_is_none() {
        for broken in [
            &[0x08][..],
            &[0x12, 3, b'h', b'i'],
            &[0x19, 1, 2],
            &[0x25, 1],
            &[0x0b],
            &[0xff; 11],
        ] {
            let mut message = broken;
            assert_eq!(take_field(&mut message), None, "{broken:?}");
        }
    }
}
