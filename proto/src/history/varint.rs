//! Numbers of variable length (LEB128), signed ones by zigzag, and the cursor that reads them.

use super::Damage;

/// Appends `value`, seven bits a byte, least first.
pub(super) fn write(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a value that may be absent, as its difference to `base`: 0 is absent, else 1 + zigzag.
///
/// The sum needs 65 bits, which is why varints here are wider than 64.
pub(super) fn write_optional(out: &mut Vec<u8>, base: Option<u64>, value: Option<u64>) {
    let Some(value) = value else { return write(out, 0) };
    let delta = value.wrapping_sub(base.unwrap_or(0)) as i64;
    let zigzag = ((delta << 1) ^ (delta >> 63)) as u64;
    write(out, u128::from(zigzag) + 1);
}

/// What is left to read.
#[derive(Clone, Copy, Debug)]
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

    /// Reads what [`write`] wrote, up to 65 bits.
    fn wide(&mut self) -> Result<u128, Damage> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let [byte] = self.array()?;
            value |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damage::Inconsistent("a number is too long"))
    }

    /// An unsigned number of at most 64 bits.
    pub(super) fn number(&mut self) -> Result<u64, Damage> {
        self.wide()?.try_into().map_err(|_| Damage::Inconsistent("a number is too large"))
    }

    /// A number that counts or indexes something in memory.
    pub(super) fn index(&mut self) -> Result<usize, Damage> {
        self.number()?.try_into().map_err(|_| Damage::Inconsistent("a number is too large"))
    }

    /// Reads what [`write_optional`] wrote against the same base.
    pub(super) fn optional(&mut self, base: Option<u64>) -> Result<Option<u64>, Damage> {
        let Some(zigzag) = self.wide()?.checked_sub(1) else { return Ok(None) };
        let zigzag = u64::try_from(zigzag).map_err(|_| Damage::Inconsistent("a number is too large"))?;
        let delta = (zigzag >> 1) ^ (zigzag & 1).wrapping_neg();
        Ok(Some(base.unwrap_or(0).wrapping_add(delta)))
    }

    /// UTF-8 text behind its length.
    pub(super) fn text(&mut self) -> Result<&'a str, Damage> {
        let length = self.index()?;
        std::str::from_utf8(self.bytes(length)?).map_err(|_| Damage::Inconsistent("text is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn optional_values_survive_any_base(base: Option<u64>, value: Option<u64>) {
            let mut out = Vec::new();
            write_optional(&mut out, base, value);
            let mut cursor = Cursor(&out);
            prop_assert_eq!(cursor.optional(base), Ok(value));
            prop_assert!(cursor.0.is_empty());
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
