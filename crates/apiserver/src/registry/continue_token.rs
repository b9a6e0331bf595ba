//! Continue tokens, in upstream's form: where a list stopped and at which revision.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::status::{ApiError, ApiResult};

const VERSION: &str = "meta.k8s.io/v1";

#[derive(Serialize, Deserialize)]
struct Token {
    #[serde(rename = "v")]
    version: String,
    #[serde(rename = "rv")]
    revision: i64,
    start: String,
}

/// A decoded token.
#[derive(Debug, PartialEq, Eq)]
pub struct Continue {
    /// The revision to read at; `None`: the newest ("inconsistent continue").
    pub revision: Option<u64>,
    /// The first key of the next page.
    pub start: Vec<u8>,
}

/// A token that goes on after `last_key`, a key below `prefix`.
pub fn encode(prefix: &str, last_key: &[u8], revision: Option<u64>) -> String {
    let rest = last_key.strip_prefix(prefix.as_bytes()).unwrap_or(last_key);
    let token = Token {
        version: VERSION.to_owned(),
        revision: revision.map_or(-1, |r| i64::try_from(r).unwrap_or(i64::MAX)),
        start: format!("{}\0", String::from_utf8_lossy(rest)),
    };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

/// Takes a token apart; `prefix` is that of the list it is used with.
pub fn decode(text: &str, prefix: &str) -> ApiResult<Continue> {
    let wrong = |why: String| ApiError::bad_request(format!("invalid continue token: {why}"));
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| {
        let strange = |b: u8| !(b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let at = text.bytes().position(strange).unwrap_or(text.len().saturating_sub(1));
        wrong(format!("continue key is not valid: illegal base64 data at input byte {at}"))
    })?;
    let token: Token =
        serde_json::from_slice(&bytes).map_err(|e| wrong(format!("continue key is not valid: {e}")))?;
    if token.version != VERSION {
        return Err(wrong(format!(
            "continue key is not valid: server does not recognize this encoded version {}",
            rules::quote(&token.version)
        )));
    }
    if token.start.is_empty() {
        return Err(wrong(
            "continue key is not valid: encoded start key empty (version meta.k8s.io/v1)".to_owned(),
        ));
    }
    // No `..` may lead out of the list's own keys.
    if token.start.split('/').any(|part| part == ".." || part == ".") {
        return Err(wrong(format!("continue key is not valid: {}", token.start)));
    }
    let mut start = prefix.as_bytes().to_vec();
    start.extend_from_slice(token.start.trim_start_matches('/').as_bytes());
    Ok(Continue { revision: u64::try_from(token.revision).ok().filter(|r| *r > 0), start })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let token = encode("/registry/pods/a/", b"/registry/pods/a/p1", Some(7));
        let got = decode(&token, "/registry/pods/a/").unwrap();
        assert_eq!(got, Continue { revision: Some(7), start: b"/registry/pods/a/p1\0".to_vec() });
        assert!(decode("!!", "/").is_err());
        assert_eq!(decode(&encode("/a/", b"/a/b", None), "/a/").unwrap().revision, None);
    }
}
