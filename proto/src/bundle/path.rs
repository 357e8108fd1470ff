//! Which paths a bundle may contain.
//!
//! A path is relative, UTF-8, and has at most [`MAX_LENGTH`] bytes and [`MAX_DEPTH`] components, joined by single
//! slashes. A component is not empty, not `.` or `..`, and has at most 255 bytes (`NAME_MAX`). It contains no control
//! characters, so that a terminal can show it, and no characters that are invisible or change the direction of text,
//! so that people see the real name. Nothing is normalised: the bytes that were hashed are the bytes that are
//! created.

/// Maximum length of a path, in bytes.
pub const MAX_LENGTH: usize = 1024;

/// Maximum number of components of a path.
pub const MAX_DEPTH: usize = 64;

/// Maximum length of a component, in bytes (`NAME_MAX` of Linux).
pub const MAX_NAME: usize = 255;

/// Why a path or component is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// Absolute, empty, or with a double or trailing slash.
    #[error("it is empty, absolute, or has an empty component")]
    EmptyComponent,
    /// `.` or `..`.
    #[error("it contains `.` or `..`")]
    Dots,
    /// NUL, newline, escape and similar.
    #[error("it has a control character")]
    Control,
    /// Zero-width spaces, direction marks and similar (Unicode's Cf, Zl and Zp).
    #[error("it has an invisible character, U+{0:04X}")]
    Invisible(u32),
    /// Not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// More than [`MAX_NAME`] bytes in a component.
    #[error("a component is longer than {MAX_NAME} bytes")]
    LongName,
    /// More than [`MAX_LENGTH`] bytes.
    #[error("it is longer than {MAX_LENGTH} bytes")]
    Long,
    /// More than [`MAX_DEPTH`] components.
    #[error("it is deeper than {MAX_DEPTH} directories")]
    Deep,
}

/// Checks `path` against the rules of this module.
///
/// # Errors
/// The first violated rule.
pub fn check(path: &str) -> Result<(), PathProblem> {
    if path.len() > MAX_LENGTH {
        return Err(PathProblem::Long);
    }
    for (depth, name) in path.split('/').enumerate() {
        if depth == MAX_DEPTH {
            return Err(PathProblem::Deep);
        }
        check_name(name)?;
    }
    Ok(())
}

/// Checks one component.
pub(super) fn check_name(name: &str) -> Result<(), PathProblem> {
    match name {
        "" => Err(PathProblem::EmptyComponent),
        "." | ".." => Err(PathProblem::Dots),
        _ if name.len() > MAX_NAME => Err(PathProblem::LongName),
        _ if name.chars().any(char::is_control) => Err(PathProblem::Control),
        _ => match name.chars().find(|letter| is_invisible(*letter)) {
            Some(letter) => Err(PathProblem::Invisible(letter.into())),
            None => Ok(()),
        },
    }
}

/// Format characters, line separators and paragraph separators: the categories Cf, Zl and Zp of Unicode 17
/// (`DerivedGeneralCategory.txt`).
fn is_invisible(letter: char) -> bool {
    matches!(u32::from(letter),
        0xAD | 0x600..=0x605 | 0x61C | 0x6DD | 0x70F | 0x890..=0x891 | 0x8E2 | 0x180E | 0x200B..=0x200F
        | 0x2028..=0x202E | 0x2060..=0x2064 | 0x2066..=0x206F | 0xFEFF | 0xFFF9..=0xFFFB | 0x110BD | 0x110CD
        | 0x13430..=0x1343F | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A | 0xE0001 | 0xE0020..=0xE007F)
}

/// The parent directory of `path`; `None` for a path of one component.
pub fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_are_accepted() {
        let deep = vec!["d"; MAX_DEPTH].join("/");
        let long = "n".repeat(MAX_NAME);
        for path in ["a", "a/b.pp", "...", ".hidden/..x", "data/ÅÄÖ.yaml", "a b/c\\d", &deep, &long] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn every_rule_refuses() {
        let deep = vec!["d"; MAX_DEPTH + 1].join("/");
        let name = "n".repeat(MAX_NAME + 1);
        let long = vec!["n".repeat(MAX_NAME); 5].join("/");
        for (path, problem) in [
            ("", PathProblem::EmptyComponent),
            ("/", PathProblem::EmptyComponent),
            ("/etc/passwd", PathProblem::EmptyComponent),
            ("a//b", PathProblem::EmptyComponent),
            ("a/", PathProblem::EmptyComponent),
            (".", PathProblem::Dots),
            ("..", PathProblem::Dots),
            ("../a", PathProblem::Dots),
            ("a/../b", PathProblem::Dots),
            ("a/./b", PathProblem::Dots),
            ("a/..", PathProblem::Dots),
            ("a\0b", PathProblem::Control),
            ("a\nb", PathProblem::Control),
            ("a\u{1b}[2Jb", PathProblem::Control),
            ("a\u{85}b", PathProblem::Control),
            ("files/gp\u{202e}pp.exe", PathProblem::Invisible(0x202e)),
            ("site\u{200b}.pp", PathProblem::Invisible(0x200b)),
            ("\u{feff}site.pp", PathProblem::Invisible(0xfeff)),
            ("a\u{2028}b", PathProblem::Invisible(0x2028)),
            ("a\u{e0041}", PathProblem::Invisible(0xe0041)),
            (name.as_str(), PathProblem::LongName),
            (long.as_str(), PathProblem::Long),
            (deep.as_str(), PathProblem::Deep),
        ] {
            assert_eq!(check(path), Err(problem), "{path:?}");
        }
    }
}
