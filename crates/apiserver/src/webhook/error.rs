//! Why a webhook gave no answer.

/// Why a call came to nothing, in the words of Go's clients.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// No exchange took place: connecting, TLS, a broken connection, a timeout.
    #[error("Post {}: {cause}", rules::quote(url))]
    Transport {
        /// With its query.
        url: String,
        /// Go's words.
        cause: String,
    },
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(String),
    /// It answered with an error status.
    #[error("{message}")]
    Status {
        /// Words of the Status in the body, or upstream's for the code.
        message: String,
        /// HTTP status.
        code: u16,
    },
    /// The answer is no JSON.
    #[error("couldn't get version/kind; json parse error: {0}")]
    Decode(String),
    /// The answer is larger than what is read.
    #[error("the response is larger than {0} bytes")]
    TooLarge(usize),
}

impl CallError {
    /// The words for an answer with an error status (`errors.NewGenericServerResponse`).
    pub(super) fn status(code: u16, body: &[u8]) -> Self {
        let status: Option<schema::Value> = serde_json::from_slice(body).ok();
        let said = status
            .filter(|s| s.str_at("kind") == Some("Status"))
            .and_then(|s| s.str_at("message").filter(|m| !m.is_empty()).map(str::to_owned));
        let text = String::from_utf8_lossy(body);
        let text = text.trim_end_matches('\n');
        let shown = if text.is_empty() { "unknown" } else { text };
        let message = said.unwrap_or_else(|| match code {
            400 => "the server rejected our request for an unknown reason".to_owned(),
            401 => "the server has asked for the client to provide credentials".to_owned(),
            403 => shown.to_owned(),
            404 => "the server could not find the requested resource".to_owned(),
            405 => "the server does not allow this method on the requested resource".to_owned(),
            406 => shown.to_owned(),
            409 => "the server reported a conflict".to_owned(),
            410 => "the requested resource has expired".to_owned(),
            415 => shown.to_owned(),
            422 => "the server rejected our request due to an error in our request".to_owned(),
            429 => {
                "the server has received too many requests and has asked us to try again later".to_owned()
            }
            503 => "the server is currently unable to handle the request".to_owned(),
            504 => "the server was unable to return a response in the time allotted, but may still be processing \
                    the request"
                .to_owned(),
            code if code >= 500 => {
                format!("an error on the server ({}) has prevented the request from succeeding", rules::quote(shown))
            }
            code => {
                format!("the server responded with the status code {code} but did not return more information")
            }
        });
        Self::Status { message, code }
    }
}
