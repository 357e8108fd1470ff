//! Numbers of variable length (LEB128, signed ones with zigzag), and the cursor that reads them.

use super::damage::Damage;

/// Appends `value`, seven bits in each byte, least significant first.
pub(super) fn write(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the difference of `value` to `base`, for any 64-bit values.
pub(super) fn write_delta(out: &mut Vec<u8>, base: u64, value: u64) {
    write(out, zigzag(value.wrapping_sub(base)));
}

/// Appends a value that may be absent, as its difference to `base`: 0 if absent, else 1 + zigzag.
///
/// The result may need 65 bits; that single value is written as ten bytes that no other number uses.
pub(super) fn write_optional(out: &mut Vec<u8>, base: Option<u64>, value: Option<u64>) {
    let Some(value) = value else { return write(out, 0) };
    match zigzag(value.wrapping_sub(base.unwrap_or(0))).checked_add(1) {
        Some(number) => write(out, number),
        None => out.extend(TOO_WIDE),
    }
}

/// Appends text, preceded by its length.
pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    write(out, text.len() as u64);
    out.extend(text.as_bytes());
}

/// The encoding of 2⁶⁴.
const TOO_WIDE: [u8; 10] = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02];

fn zigzag(difference: u64) -> u64 {
    let signed = difference as i64;
    ((signed << 1) ^ (signed >> 63)) as u64
}

fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ (number & 1).wrapping_neg()
}

/// The remaining bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    /// The next `count` bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Damage::Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Damage::Cut)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// Skips numbers without decoding them: each ends with a byte below 0x80.
    pub(super) fn pass(&mut self, mut count: usize) -> Result<(), Damage> {
        while let Some((word, rest)) = self.0.split_first_chunk() {
            let ends = (!u64::from_le_bytes(*word) & 0x8080_8080_8080_8080).count_ones() as usize;
            if ends >= count {
                break;
            }
            count -= ends;
            self.0 = rest;
        }
        while count > 0 {
            let [byte] = self.array()?;
            count -= usize::from(byte < 0x80);
        }
        Ok(())
    }

    /// An unsigned number. Always inlined, like `wide` and `index`: readers decode millions.
    #[inline(always)]
    pub(super) fn number(&mut self) -> Result<u64, Damage> {
        self.wide()?.ok_or(Damage::Inconsistent("a number is too large"))
    }

    /// An unsigned number; `None` for 2⁶⁴.
    #[inline(always)]
    fn wide(&mut self) -> Result<Option<u64>, Damage> {
        match self.0 {
            [byte @ 0..0x80, rest @ ..] => {
                self.0 = rest;
                Ok(Some(u64::from(*byte)))
            }
            [low, high @ 0..0x80, rest @ ..] => {
                self.0 = rest;
                Ok(Some(u64::from(low & 0x7f) | u64::from(*high) << 7))
            }
            [low, middle, high @ 0..0x80, rest @ ..] => {
                self.0 = rest;
                Ok(Some(u64::from(low & 0x7f) | u64::from(middle & 0x7f) << 7 | u64::from(*high) << 14))
            }
            _ => self.long(),
        }
    }

    #[inline(never)]
    fn long(&mut self) -> Result<Option<u64>, Damage> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(Some(value));
            }
        }
        match self.array()? {
            [byte @ 0..=1] => Ok(Some(value | u64::from(byte) << 63)),
            [2] if value == 0 => Ok(None),
            _ => Err(Damage::Inconsistent("a number is too long")),
        }
    }

    /// A count or index for data in memory.
    #[inline(always)]
    pub(super) fn index(&mut self) -> Result<usize, Damage> {
        self.number()?.try_into().map_err(|_| Damage::Inconsistent("a number is too large"))
    }

    /// Reads the output of [`write_delta`] with the same base.
    pub(super) fn delta(&mut self, base: u64) -> Result<u64, Damage> {
        Ok(base.wrapping_add(unzigzag(self.number()?)))
    }

    /// Reads the output of [`write_optional`] with the same base.
    #[inline]
    pub(super) fn optional(&mut self, base: Option<u64>) -> Result<Option<u64>, Damage> {
        let number = match self.wide()? {
            Some(0) => return Ok(None),
            Some(number) => number - 1,
            None => u64::MAX,
        };
        Ok(Some(base.unwrap_or(0).wrapping_add(unzigzag(number))))
    }

    /// UTF-8 text, preceded by its length.
    pub(super) fn text(&mut self) -> Result<&'a str, Damage> {
        let length = self.index()?;
        std::str::from_utf8(self.bytes(length)?).map_err(|_| Damage::Inconsistent("text is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_number() -> impl Strategy<Value = u64> {
        prop_oneof![any::<u64>(), 0..300u64, Just(u64::MAX), Just(1 << 63), Just(u64::MAX - 1)]
    }

    proptest! {
        #[test]
        fn optional_values_survive_any_base(
            base in proptest::option::of(any_number()),
            value in proptest::option::of(any_number()),
        ) {
            let mut out = Vec::new();
            write_optional(&mut out, base, value);
            let mut cursor = Cursor(&out);
            prop_assert_eq!(cursor.optional(base), Ok(value));
            prop_assert!(cursor.0.is_empty());
        }

        #[test]
        fn numbers_and_differences_survive(base in any_number(), value in any_number()) {
            let mut out = Vec::new();
            write(&mut out, value);
            write_delta(&mut out, base, value);
            let mut cursor = Cursor(&out);
            prop_assert_eq!(cursor.number(), Ok(value));
            prop_assert_eq!(cursor.delta(base), Ok(value));
            prop_assert!(cursor.0.is_empty());
        }

        #[test]
        fn numbers_are_passed_over_one_by_one(
            numbers in proptest::collection::vec(any_number(), 0..40),
            at in any::<prop::sample::Index>(),
        ) {
            let (mut out, mut rest) = (Vec::new(), Vec::new());
            let count = at.index(numbers.len() + 1);
            numbers.iter().for_each(|number| write(&mut out, *number));
            numbers[count..].iter().for_each(|number| write(&mut rest, *number));
            let mut cursor = Cursor(&out);
            prop_assert_eq!(cursor.pass(count), Ok(()));
            prop_assert_eq!(cursor.0, &rest[..]);
            prop_assert_eq!(Cursor(&out).pass(numbers.len() + 1), Err(Damage::Cut));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, base: Option<u64>) {
            let _ = Cursor(&bytes).optional(base);
            let _ = Cursor(&bytes).number();
            let _ = Cursor(&bytes).text();
        }
    }

    #[test]
    fn an_unchanged_value_is_one_byte() {
        let mut out = Vec::new();
        write_optional(&mut out, Some(1 << 60), Some(1 << 60));
        assert_eq!(out, [1]);
    }
}
