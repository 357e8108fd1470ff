//! EC2 user-data with an enrol document, and optionally with the user's own content.
//!
//! User-data is a MIME message (RFC 2046 §5.1) that cloud-init also reads: one part of type [`CONTENT_TYPE`] for the
//! agent, and optionally another part for cloud-init. cloud-init recognises MIME if `MIME-Version:` is in the first
//! 4096 bytes. It ignores a part whose `Launch-Index` names another instance of the launch (`cloudinit/user_data.py`,
//! `cloudinit/filters/launch_index.py`); without this header, cloud-init would warn on each host about the unknown
//! type.

use base64::{Engine, engine::general_purpose::STANDARD};

/// The content type of the agent's part.
pub const CONTENT_TYPE: &str = "application/x-magpie-enrol";

/// EC2's limit, in bytes before base64 encoding (EC2 user guide, "Run commands when you launch an EC2 instance with
/// user data input").
pub const LIMIT: usize = 16 * 1024;

/// Maximum length of a boundary (RFC 2046 §5.1.1).
const MAX_BOUNDARY: usize = 70;

/// Bytes in a line of base64, which give 76 characters (RFC 2045 §6.8).
const BASE64_LINE: usize = 57;

/// Why user-data cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum UserDataError {
    /// The user-data exceeds EC2's limit.
    #[error(
        "user-data of {total} bytes is longer than the {LIMIT} that EC2 allows; \
         {own} of these are the enrol document, which leaves at most {} for other user-data",
        LIMIT.saturating_sub(*own)
    )]
    TooLong {
        /// Total size, in bytes.
        total: usize,
        /// Size without the user's content, in bytes.
        own: usize,
    },
    /// The content type of the user's part cannot be derived.
    #[error(
        "cannot tell the type of user-data that begins with {first_line:?}; \
         known first lines are #!, #cloud-config, Content-Type: and MIME-Version: (the last two for a complete MIME message)"
    )]
    Unknown {
        /// The first line of the user's part.
        first_line: String,
    },
    /// The enrol document or the user's part cannot be put into a message.
    #[error("cannot compose the user-data: {0}")]
    Compose(&'static str),
    /// The MIME message is malformed.
    #[error("the user-data is malformed: {0}")]
    Malformed(&'static str),
    /// There is more than one enrol document.
    #[error("the user-data contains two enrol documents")]
    Twice,
}

/// User-data with this enrol document and, for cloud-init, `extra`: a script, a cloud-config, or a complete MIME
/// message. The same input gives the same bytes. The result contains the token and is secret.
///
/// # Errors
/// If EC2 or cloud-init could not read the result.
pub fn compose(enrol_document_json: &[u8], extra: Option<&[u8]>) -> Result<Vec<u8>, UserDataError> {
    if !enrol_document_json.is_ascii() {
        return Err(UserDataError::Compose("the enrol document is not ASCII"));
    }
    let own = part(&[("Content-Type", CONTENT_TYPE), ("Launch-Index", "-1")], enrol_document_json);
    let extra = extra.map(foreign_part).transpose()?;
    let alone = message(&[&own]).len();
    let parts: Vec<&[u8]> = [own.as_slice()].into_iter().chain(extra.as_deref()).collect();
    let message = message(&parts);
    if message.len() > LIMIT {
        return Err(UserDataError::TooLong { total: message.len(), own: alone });
    }
    // Whatever the extra part contains, the agent must find its own part.
    match enrol_document(&message) {
        Ok(Some(found)) if found == enrol_document_json => Ok(message),
        Err(UserDataError::Twice) => Err(UserDataError::Twice),
        _ => Err(UserDataError::Compose("the other user-data hides the enrol document")),
    }
}

/// The enrol document in user-data; `None` if this is not a MIME message, or has no such part.
///
/// # Errors
/// [`UserDataError::Malformed`] and [`UserDataError::Twice`].
pub fn enrol_document(user_data: &[u8]) -> Result<Option<&[u8]>, UserDataError> {
    let Some(message) = Entity::read(user_data) else { return Ok(None) };
    if !message.content_type().starts_with("multipart/") {
        return Ok(None);
    }
    let boundary = message.boundary().ok_or(UserDataError::Malformed("it names no boundary"))?;
    let mut documents = split(message.body, boundary)?
        .into_iter()
        .filter_map(Entity::read)
        .filter(|part| part.content_type() == CONTENT_TYPE);
    let Some(document) = documents.next() else { return Ok(None) };
    if documents.next().is_some() {
        return Err(UserDataError::Twice);
    }
    match document.header("Content-Transfer-Encoding").map(str::to_ascii_lowercase).as_deref() {
        None | Some("7bit" | "8bit" | "binary") => Ok(Some(document.body)),
        Some(_) => Err(UserDataError::Malformed("the enrol document is encoded")),
    }
}

/// A message of these parts, with a boundary that occurs in none of them.
fn message(parts: &[&[u8]]) -> Vec<u8> {
    let occurs = |boundary: &str| {
        parts.iter().any(|part| part.windows(boundary.len()).any(|window| window == boundary.as_bytes()))
    };
    let mut boundary = "magpie".to_owned();
    for number in 1.. {
        if !occurs(&boundary) {
            break;
        }
        boundary = format!("magpie-{number}.");
    }
    let mut message =
        format!("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"{boundary}\"\r\n")
            .into_bytes();
    for part in parts {
        message.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
        message.extend_from_slice(part);
    }
    message.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    message
}

fn part(headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut part = Vec::new();
    for (name, value) in headers {
        part.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    part.extend_from_slice(b"\r\n");
    part.extend_from_slice(body);
    part
}

/// The part for cloud-init. Its type follows from the first line, by cloud-init's own rules.
fn foreign_part(extra: &[u8]) -> Result<Vec<u8>, UserDataError> {
    let first_line = extra.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    let begins_with =
        |name: &[u8]| first_line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    let kind = if first_line.starts_with(b"#!") {
        "text/x-shellscript; charset=\"utf-8\""
    } else if first_line == b"#cloud-config" {
        "text/cloud-config; charset=\"utf-8\""
    } else if begins_with(b"Content-Type:") || begins_with(b"MIME-Version:") {
        Entity::read(extra).ok_or(UserDataError::Compose("its MIME headers are malformed"))?;
        return Ok(extra.to_vec());
    } else {
        let first_line = first_line.get(..60).unwrap_or(first_line);
        return Err(UserDataError::Unknown { first_line: String::from_utf8_lossy(first_line).into_owned() });
    };
    if extra.is_ascii() {
        return Ok(part(&[("Content-Type", kind)], extra));
    }
    // Python's email package, which cloud-init uses, would treat other bytes as Latin-1.
    let lines: Vec<_> = extra.chunks(BASE64_LINE).map(|line| STANDARD.encode(line)).collect();
    let headers = [("Content-Type", kind), ("Content-Transfer-Encoding", "base64")];
    Ok(part(&headers, lines.join("\r\n").as_bytes()))
}

/// The bodies between a multipart's delimiter lines, without the line break before each delimiter (RFC 2046 §5.1.1).
fn split<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<&'a [u8]>, UserDataError> {
    let (mut parts, mut begin, mut at) = (Vec::new(), None, 0);
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let rest =
            line.trim_ascii_end().strip_prefix(b"--").and_then(|line| line.strip_prefix(boundary.as_bytes()));
        if let Some(rest @ (b"" | b"--")) = rest {
            parts.extend(begin.map(|begin| without_line_break(&body[begin..at])));
            if rest == b"--" {
                return Ok(parts);
            }
            begin = Some(at + line.len());
        }
        at += line.len();
    }
    Err(UserDataError::Malformed("it ends within a part"))
}

fn without_line_break(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

/// Headers and a body: a message or a part.
struct Entity<'a> {
    headers: Vec<(String, String)>,
    body: &'a [u8],
}

impl<'a> Entity<'a> {
    /// `None` if the bytes do not begin with headers (RFC 5322 §2.2); no headers at all are valid.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut headers: Vec<(String, String)> = Vec::new();
        let mut at = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            at += line.len();
            let text = std::str::from_utf8(line).ok()?.trim_end();
            if text.is_empty() {
                break;
            }
            if text.starts_with([' ', '\t']) {
                // A folded line continues the previous value.
                headers.last_mut()?.1.push_str(text);
                continue;
            }
            let (name, value) = text.split_once(':')?;
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                return None;
            }
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Some(Self { headers, body: &bytes[at..] })
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Type and subtype in lower case; empty without the header.
    fn content_type(&self) -> String {
        let value = self.header("Content-Type").unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// The `boundary` parameter of the content type.
    fn boundary(&self) -> Option<&str> {
        let value = self.header("Content-Type")?;
        let mut parameters = value.split_inclusive(';').scan(0, |at, piece| {
            let begin = *at;
            *at += piece.len();
            Some((begin, piece.trim_start()))
        });
        let (begin, _) = parameters
            .find(|(_, piece)| piece.get(..9).is_some_and(|name| name.eq_ignore_ascii_case("boundary=")))?;
        let (_, rest) = value[begin..].split_once('=')?;
        let boundary = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next(),
            None => rest.split([';', ' ', '\t']).next(),
        };
        boundary.filter(|boundary| (1..=MAX_BOUNDARY).contains(&boundary.len()))
    }
}

#[cfg(test)]
mod tests;
