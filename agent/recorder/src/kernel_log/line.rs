//! A record of /dev/kmsg (the kernel's Documentation/ABI/testing/dev-kmsg):
//! `priority,sequence,microseconds,flags[,…];text`, then lines ` KEY=value`. Unprintable bytes are escaped as `\xNN`.

/// A record whose text is still escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Facility times eight plus level (syslog(3)); the kernel's own facility is 0.
    pub priority: u16,
    /// Number of the record since boot.
    pub sequence: u64,
    /// Time since boot on the scheduler's clock, which stops in suspend and drifts by some seconds a day.
    pub at_us: u64,
    text: &'a [u8],
}

impl<'a> Record<'a> {
    /// Parses the result of one read.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let semicolon = bytes.iter().position(|byte| *byte == b';')?;
        let mut fields = std::str::from_utf8(&bytes[..semicolon]).ok()?.split(',');
        let (priority, sequence, at) = (fields.next()?, fields.next()?, fields.next()?);
        let text = bytes[semicolon + 1..].split(|byte| *byte == b'\n').next()?;
        Some(Self {
            priority: priority.parse().ok()?,
            sequence: sequence.parse().ok()?,
            at_us: at.parse().ok()?,
            text,
        })
    }

    /// Whether the kernel wrote the record. Other programs can write to the log too, but not with the kernel's
    /// facility.
    pub fn is_kernels(&self) -> bool {
        self.priority >> 3 == 0
    }

    /// Writes the text to `line`, unescaped except for control characters: a name with a line break must not begin a
    /// new line.
    pub fn text(&self, line: &mut String) {
        line.clear();
        let mut rest = self.text;
        let mut pending = [0; 4];
        let mut length = 0;
        while let Some((byte, behind)) = next_byte(rest) {
            rest = behind;
            if byte.is_ascii() {
                push_bytes(line, &pending[..std::mem::take(&mut length)]);
                match byte {
                    0x20..0x7f | b'\t' => line.push(byte.into()),
                    _ => line.extend(['\\', 'x', hexadecimal(byte >> 4), hexadecimal(byte & 15)]),
                }
                continue;
            }
            // In UTF-8, a character begins with a byte of at least 0xc0 and has at most four bytes.
            if length == pending.len() || byte >= 0xc0 {
                push_bytes(line, &pending[..std::mem::take(&mut length)]);
            }
            pending[length] = byte;
            length += 1;
        }
        push_bytes(line, &pending[..length]);
    }
}

/// The first byte, or the byte that `\xNN` stands for, and the remaining text.
fn next_byte(text: &[u8]) -> Option<(u8, &[u8])> {
    if let [b'\\', b'x', high, low, rest @ ..] = text {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        if let (Some(high), Some(low)) = (digit(*high), digit(*low)) {
            return Some(((high << 4 | low) as u8, rest));
        }
    }
    text.split_first().map(|(byte, rest)| (*byte, rest))
}

fn hexadecimal(digit: u8) -> char {
    char::from_digit(digit.into(), 16).unwrap_or('0')
}

fn push_bytes(line: &mut String, bytes: &[u8]) {
    bytes.utf8_chunks().for_each(|chunk| {
        line.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            line.push(char::REPLACEMENT_CHARACTER);
        }
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(bytes: &[u8]) -> String {
        let mut line = String::new();
        Record::parse(bytes).unwrap().text(&mut line);
        line
    }

    #[test]
    fn a_record_is_read() {
        let record = Record::parse(b"4,356,2136931053,-;x invoked oom-killer\n SUBSYSTEM=pci\n").unwrap();
        assert_eq!((record.priority, record.sequence, record.at_us), (4, 356, 2_136_931_053));
        assert_eq!(record.text, b"x invoked oom-killer");
        assert!(record.is_kernels());
        assert!(!Record::parse(b"30,357,1,-,caller=T1;systemd[1]: x\n").unwrap().is_kernels());
        assert_eq!(Record::parse(b"30,357;x"), None);
    }

    #[test]
    fn escapes_are_undone_but_for_control_characters() {
        assert_eq!(
            text(br"6,1,1,-;caf\xc3\xa9 \x5cx \xff \x0a \xzz \"),
            "caf\u{e9} \\x \u{fffd} \\x0a \\xzz \\"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_harmless(bytes: Vec<u8>, tail: Vec<u8>) {
            Record::parse(&bytes);
            let line = text(&[b"6,1,1,-;", tail.as_slice()].concat());
            prop_assert!(!line.contains('\n') && line.len() <= 4 * tail.len());
        }

        #[test]
        fn what_the_kernel_escapes_comes_back(name in "[^\\p{Cc}\\\\]{0,20}") {
            let escaped: String = name.bytes().map(|byte| match byte {
                b' '..=b'~' => char::from(byte).to_string(),
                byte => format!("\\x{byte:02x}"),
            }).collect();
            prop_assert_eq!(text(format!("6,1,1,-;{escaped}\n").as_bytes()), name);
        }
    }
}
