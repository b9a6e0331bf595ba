//! Tokens of label selectors (`apimachinery/pkg/labels`).

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Error(String),
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    In,
    Word(String),
    Less,
    NotEquals,
    NotIn,
    Open,
}

impl Token {
    /// As messages print it.
    pub(super) fn literal(&self) -> &str {
        match self {
            Self::Error(text) | Self::Word(text) => text,
            Self::End => "",
            Self::Close => ")",
            Self::Comma => ",",
            Self::Not => "!",
            Self::DoubleEquals => "==",
            Self::Equals => "=",
            Self::Greater => ">",
            Self::In => "in",
            Self::Less => "<",
            Self::NotEquals => "!=",
            Self::NotIn => "notin",
            Self::Open => "(",
        }
    }
}

const SYMBOLS: &str = "=!(),><";

/// All tokens of a selector, ended by one [`Token::End`].
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(first) = rest.chars().next() else {
            out.push(Token::End);
            return out;
        };
        let len = if SYMBOLS.contains(first) {
            let (token, len) = symbol(rest);
            out.push(token);
            len
        } else {
            let len = rest.find(|c: char| SYMBOLS.contains(c) || " \t\r\n".contains(c)).unwrap_or(rest.len());
            out.push(match &rest[..len] {
                "in" => Token::In,
                "notin" => Token::NotIn,
                word => Token::Word(word.to_owned()),
            });
            len
        };
        rest = &rest[len..];
    }
}

/// The longest known symbol at the start; an unknown run is an error token.
fn symbol(text: &str) -> (Token, usize) {
    const KNOWN: [(&str, Token); 9] = [
        ("==", Token::DoubleEquals),
        ("!=", Token::NotEquals),
        ("=", Token::Equals),
        ("!", Token::Not),
        ("(", Token::Open),
        (")", Token::Close),
        (",", Token::Comma),
        (">", Token::Greater),
        ("<", Token::Less),
    ];
    for (literal, token) in KNOWN {
        if text.starts_with(literal) {
            return (token, literal.len());
        }
    }
    (Token::Error(text.to_owned()), text.len())
}
