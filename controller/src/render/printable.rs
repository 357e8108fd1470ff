//! Escapes text from a host so that it cannot control the user's terminal.
//!
//! Control characters (C0, DEL, C1), characters that reorder or hide other text (Unicode category Cf, UAX #9), and the
//! line and paragraph separators are shown in a visible form: `\x1b`, `\n`, `\u{202e}`. Bytes that are not UTF-8
//! are shown as `\x9b`: some terminals still treat C1 bytes as commands. Everything that [`super::Output`] prints
//! goes through here; only a command's own output may bypass it.

use super::text::push;

/// For a single line or cell: also escapes newline and tab.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_printable(&mut out, text);
    out
}

/// Appends [`printable`].
pub(crate) fn push_printable(out: &mut String, text: &str) {
    push_escaped(out, text, is_unwanted);
}

/// For text of several lines: keeps newline and tab.
pub(crate) fn printable_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_lines(&mut out, text);
    out
}

/// [`printable_lines`] for bytes that may not be UTF-8.
pub(super) fn printable_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        push_lines(&mut out, chunk.valid());
        chunk.invalid().iter().for_each(|byte| push(&mut out, format_args!("\\x{byte:02x}")));
    }
    out
}

/// For serialized JSON: writes the same characters as `\u` escapes, so that no value changes. A serializer only
/// escapes C0 (RFC 8259 §7).
pub(super) fn printable_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    push_unless(&mut out, json, is_unwanted_in_lines, |out, c| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            push(out, format_args!("\\u{unit:04x}"));
        }
    });
    out
}

/// Number of trailing bytes that are an incomplete UTF-8 character.
pub(super) fn unfinished(bytes: &[u8]) -> usize {
    let is_first = |byte: &&u8| !matches!(byte, 0x80..0xc0);
    let Some(back) = bytes.iter().rev().take(3).position(|byte| is_first(&byte)) else { return 0 };
    let expected = match bytes[bytes.len() - 1 - back] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    if expected > back + 1 { back + 1 } else { 0 }
}

fn push_lines(out: &mut String, text: &str) {
    push_escaped(out, text, is_unwanted_in_lines);
}

fn push_escaped(out: &mut String, text: &str, unwanted: fn(char) -> bool) {
    push_unless(out, text, unwanted, |out, c| match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\0'..='\x7f' => push(out, format_args!("\\x{:02x}", u32::from(c))),
        _ => push(out, format_args!("\\u{{{:x}}}", u32::from(c))),
    });
}

fn push_unless(
    out: &mut String,
    text: &str,
    unwanted: fn(char) -> bool,
    mut escape: impl FnMut(&mut String, char),
) {
    // Fast path: nearly all text is printable ASCII, and a record prints a lot of it.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return out.push_str(text);
    }
    for c in text.chars() {
        if unwanted(c) {
            escape(out, c);
        } else {
            out.push(c);
        }
    }
}

fn is_unwanted_in_lines(c: char) -> bool {
    !matches!(c, '\n' | '\t') && is_unwanted(c)
}

/// Controls (Unicode category Cc), format characters (Cf), line and paragraph separators (Zl, Zp).
fn is_unwanted(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{600}'..='\u{605}'
                | '\u{61c}'
                | '\u{6dd}'
                | '\u{70f}'
                | '\u{890}'..='\u{891}'
                | '\u{8e2}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{110bd}'
                | '\u{110cd}'
                | '\u{13430}'..='\u{1343f}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Text as a hostile host would send it: mostly control, reordering and hidden characters.
    pub(crate) fn hostile_text() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            any::<char>().prop_map(String::from),
            "[ -~]{0,4}",
            prop::sample::select(vec![
                "\x1b[2J",
                "\x1b]0;title\x07",
                "\u{9b}31m",
                "\x7f",
                "\u{202e}",
                "\u{200b}",
                "\u{2028}",
                "\r",
                "\n",
                "\t",
                "\0",
                "é",
                "日本",
                "{sha256}",
                "\u{feff}",
                "\u{e0041}",
            ])
            .prop_map(String::from),
        ];
        prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
    }

    /// Panics if `text` could control a terminal.
    pub(crate) fn assert_harmless(text: &str) {
        let found = text.chars().find(|&c| is_unwanted_in_lines(c));
        assert_eq!(found, None, "{text:?}");
    }

    #[test]
    fn control_characters_are_shown_in_visible_form() {
        let text = "a\x1b[2J\u{9b}m\x07\x7f\r\n\tb\u{202e}c\u{feff} ünd 日本 🦀";
        assert_eq!(printable(text), r"a\x1b[2J\u{9b}m\x07\x7f\r\n\tb\u{202e}c\u{feff} ünd 日本 🦀");
        assert_eq!(
            printable_lines(text),
            "a\\x1b[2J\\u{9b}m\\x07\\x7f\\r\n\tb\\u{202e}c\\u{feff} ünd 日本 🦀"
        );
        assert_eq!(printable_bytes(b"a\x9b2Jb\x1b\xff\xc3\xbc\n"), "a\\x9b2Jb\\x1b\\xff\u{fc}\n");
    }

    #[test]
    fn an_incomplete_character_is_detected() {
        for character in ["ü", "日", "🦀"] {
            for cut in 1..character.len() {
                assert_eq!(unfinished(&[b"a", &character.as_bytes()[..cut]].concat()), cut);
            }
            assert_eq!(unfinished(character.as_bytes()), 0);
        }
        assert_eq!([&b""[..], b"a", b"\xff", b"\x80\x80\x80\x80", b"\xc3\xbc\xbc"].map(unfinished), [0; 5]);
    }

    proptest! {
        #[test]
        fn printable_text_never_controls_a_terminal(text in hostile_text(), bytes: Vec<u8>) {
            let line = printable(&text);
            assert_harmless(&line);
            prop_assert!(!line.contains(['\n', '\t']));
            // Harmless text is unchanged.
            prop_assert_eq!(printable(&line), line);
            assert_harmless(&printable_lines(&text));
            assert_harmless(&printable_bytes(&bytes));
        }

        #[test]
        fn json_keeps_its_values(text in hostile_text()) {
            let json = printable_json(&serde_json::json!({ "text": text }).to_string());
            assert_harmless(&json);
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(value["text"].as_str(), Some(text.as_str()));
        }
    }
}
