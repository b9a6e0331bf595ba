//! Splits a source into tokens.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::ast::Literal;
use crate::source::Issue;

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    /// Operators, brackets and `in`, `true`, `false`, `null`.
    Symbol(&'static str),
    /// A name.
    Ident(SmolStr),
    /// A name in backticks, only after a dot and as a field's name.
    Quoted(SmolStr),
    /// A number, string or bytes; the words say what an overflow is.
    Literal(Literal),
    /// A literal that is well-formed but has no value.
    Bad(&'static str),
    /// The end.
    End,
}

/// A token and where it is, in characters.
#[derive(Debug, Clone)]
pub(crate) struct Lexed {
    pub token: Token,
    pub start: usize,
    pub end: usize,
}

/// Longest first.
const SYMBOLS: [&str; 27] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":",
    "+", "*", "/", "%", "in", "true", "false",
];

/// Tokens of `source`, the last of which is the end; what is no token is an issue.
pub(crate) fn lex(source: &[char]) -> (Vec<Lexed>, Vec<Issue>) {
    let mut lexer = Lexer { source, at: 0, tokens: Vec::new(), issues: Vec::new() };
    lexer.run();
    (lexer.tokens, lexer.issues)
}

struct Lexer<'a> {
    source: &'a [char],
    at: usize,
    tokens: Vec<Lexed>,
    issues: Vec<Issue>,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> char {
        self.source.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn run(&mut self) {
        while self.at < self.source.len() {
            let (start, c) = (self.at, self.peek(0));
            if matches!(c, '\t' | ' ' | '\r' | '\n' | '\u{c}') {
                self.at += 1;
                continue;
            }
            if c == '/' && self.peek(1) == '/' {
                while self.at < self.source.len() && self.peek(0) != '\n' {
                    self.at += 1;
                }
                continue;
            }
            match self.token(c) {
                Some(token) => self.tokens.push(Lexed { token, start, end: self.at }),
                None => self.unknown(start),
            }
        }
        self.tokens.push(Lexed { token: Token::End, start: self.at, end: self.at });
    }

    fn unknown(&mut self, start: usize) {
        self.at = self.at.max(start + 1).min(self.source.len());
        let text: String = self.source[start..self.at].iter().collect();
        let shown = text.replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r");
        let message = format!("Syntax error: token recognition error at: '{shown}'");
        self.issues.push(Issue { offset: Some(start), message });
    }

    fn token(&mut self, c: char) -> Option<Token> {
        let prefix = self.string_prefix();
        if let Some((raw, bytes, skip)) = prefix {
            return self.string(raw, bytes, skip);
        }
        if c.is_ascii_digit() || (c == '.' && self.peek(1).is_ascii_digit()) {
            return Some(self.number());
        }
        if c.is_ascii_alphabetic() || c == '_' {
            return Some(self.name());
        }
        if c == '`' {
            return self.quoted();
        }
        let two: String = [c, self.peek(1)].iter().collect();
        if let Some(symbol) = SYMBOLS[..6].iter().find(|s| **s == two) {
            self.at += 2;
            return Some(Token::Symbol(symbol));
        }
        let symbol = SYMBOLS[6..24].iter().find(|s| s.starts_with(c));
        if symbol.is_none() {
            // A lone `&`, `|` or `=` takes the character after it along, as the generated lexer does.
            let takes_next = matches!(c, '&' | '|' | '=') && self.at + 1 < self.source.len();
            self.at += if takes_next { 2 } else { 1 };
            return None;
        }
        self.at += 1;
        symbol.map(|s| Token::Symbol(s))
    }

    fn name(&mut self) -> Token {
        let start = self.at;
        while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == '_' {
            self.at += 1;
        }
        let text: String = self.source[start..self.at].iter().collect();
        match text.as_str() {
            "in" => Token::Symbol("in"),
            "true" => Token::Literal(Literal::Bool(true)),
            "false" => Token::Literal(Literal::Bool(false)),
            "null" => Token::Literal(Literal::Null),
            _ => Token::Ident(text.into()),
        }
    }

    fn quoted(&mut self) -> Option<Token> {
        let start = self.at + 1;
        let len = self.source[start..]
            .iter()
            .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' '))
            .count();
        if len == 0 || self.source.get(start + len) != Some(&'`') {
            return None;
        }
        self.at = start + len + 1;
        Some(Token::Quoted(self.source[start..start + len].iter().collect::<String>().into()))
    }

    fn digits(&mut self) {
        while self.peek(0).is_ascii_digit() {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Token {
        let start = self.at;
        if self.peek(0) == '0' && self.peek(1) == 'x' && self.peek(2).is_ascii_hexdigit() {
            self.at += 2;
            let digits = self.at;
            while self.peek(0).is_ascii_hexdigit() {
                self.at += 1;
            }
            let text: String = self.source[digits..self.at].iter().collect();
            return self.whole(&text, 16);
        }
        self.digits();
        let mut float = false;
        if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
            float = true;
            self.at += 1;
            self.digits();
        }
        let exponent = matches!(self.peek(0), 'e' | 'E')
            && (self.peek(1).is_ascii_digit()
                || (matches!(self.peek(1), '+' | '-') && self.peek(2).is_ascii_digit()));
        if exponent {
            float = true;
            self.at += 2;
            self.digits();
        }
        let text: String = self.source[start..self.at].iter().collect();
        if !float {
            return self.whole(&text, 10);
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Token::Literal(Literal::Double(number)),
            _ => Token::Bad("invalid double literal"),
        }
    }

    fn whole(&mut self, digits: &str, radix: u32) -> Token {
        if matches!(self.peek(0), 'u' | 'U') {
            self.at += 1;
            return u64::from_str_radix(digits, radix)
                .map_or(Token::Bad("invalid uint literal"), |n| Token::Literal(Literal::Uint(n)));
        }
        match u64::from_str_radix(digits, radix) {
            Ok(n) if n <= i64::MAX as u64 => Token::Literal(Literal::Int(n as i64)),
            // The least integer is written with a sign, which the parser has seen.
            Ok(n) if n == i64::MAX as u64 + 1 && self.after_minus() => Token::Literal(Literal::Int(i64::MIN)),
            _ => Token::Bad("invalid int literal"),
        }
    }

    fn after_minus(&self) -> bool {
        matches!(self.tokens.last(), Some(Lexed { token: Token::Symbol("-"), .. }))
    }

    /// Whether a string begins here: raw, bytes, and the letters before the quote.
    fn string_prefix(&self) -> Option<(bool, bool, usize)> {
        let mut letters = String::new();
        for i in 0..3 {
            match self.peek(i) {
                '"' | '\'' => {
                    let lower = letters.to_ascii_lowercase();
                    return match lower.as_str() {
                        "" => Some((false, false, 0)),
                        "r" => Some((true, false, 1)),
                        "b" => Some((false, true, 1)),
                        "br" => Some((true, true, 2)),
                        _ => None,
                    };
                }
                c => letters.push(c),
            }
        }
        None
    }

    fn string(&mut self, raw: bool, bytes: bool, skip: usize) -> Option<Token> {
        let quote = self.peek(skip);
        let triple = self.peek(skip + 1) == quote && self.peek(skip + 2) == quote;
        self.at += skip + if triple { 3 } else { 1 };
        let mut text = Text { bytes, out: Vec::new() };
        loop {
            let c = *self.source.get(self.at)?;
            if c == quote && (!triple || (self.peek(1) == quote && self.peek(2) == quote)) {
                self.at += if triple { 3 } else { 1 };
                break;
            }
            if !triple && matches!(c, '\n' | '\r') {
                return None;
            }
            if c == '\\' && !raw {
                self.escape(&mut text)?;
            } else {
                text.push(c);
                self.at += 1;
            }
        }
        Some(match bytes {
            true => Token::Literal(Literal::Bytes(Arc::from(text.out))),
            false => match String::from_utf8(text.out) {
                Ok(text) => Token::Literal(Literal::String(text.into())),
                Err(_) => Token::Bad("unable to unquote string"),
            },
        })
    }

    /// One escape sequence; `None` when it is none, after moving past what the generated lexer would take.
    fn escape(&mut self, text: &mut Text) -> Option<()> {
        let c = self.peek(1);
        let plain = match c {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            '\\' | '\'' | '"' | '`' | '?' => c as u8,
            _ => 0,
        };
        if plain != 0 {
            text.push(char::from(plain));
            self.at += 2;
            return Some(());
        }
        let (digits, radix, skip) = match c {
            'x' | 'X' => (2, 16, 2),
            'u' => (4, 16, 2),
            'U' => (8, 16, 2),
            '0'..='3' => (3, 8, 1),
            _ => {
                self.at += 2;
                return None;
            }
        };
        let mut value = 0_u32;
        self.at += skip;
        for _ in 0..digits {
            let Some(digit) = self.peek(0).to_digit(radix) else {
                self.at += 1;
                return None;
            };
            value = value * radix + digit;
            self.at += 1;
        }
        text.push_code(value, matches!(c, 'u' | 'U'))
    }
}

/// A string or byte string under construction.
struct Text {
    bytes: bool,
    out: Vec<u8>,
}

impl Text {
    fn push(&mut self, c: char) {
        self.out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }

    fn push_code(&mut self, code: u32, unicode: bool) -> Option<()> {
        if self.bytes && !unicode {
            self.out.push(u8::try_from(code).ok()?);
        } else {
            self.push(char::from_u32(code)?);
        }
        Some(())
    }
}
