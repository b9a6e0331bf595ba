//! The lexer: Go's syntax errors word by word, since they end in messages to users.

use std::borrow::Cow;

use schema::{Map, SmolStr, Value};

use crate::{DEPTH_MAX, Error};

/// A position in JSON text.
pub(super) struct Reader<'i> {
    text: &'i str,
    at: usize,
    depth: usize,
}

impl<'i> Reader<'i> {
    pub fn new(text: &'i str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    fn bytes(&self) -> &'i [u8] {
        self.text.as_bytes()
    }

    /// The next byte that is no white space, not consumed.
    pub fn peek(&mut self) -> Result<u8, Error> {
        while let Some(byte) = self.bytes().get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(*byte);
            }
            self.at += 1;
        }
        Err(end())
    }

    fn invalid<T>(&self, context: &str) -> Result<T, Error> {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            None => Err(end()),
            Some(c) => Err(Error::Syntax(format!("invalid character {} {context}", quote(c)))),
        }
    }

    /// Nothing but white space may follow.
    pub fn finish(&mut self) -> Result<(), Error> {
        match self.peek() {
            Err(_) => Ok(()),
            Ok(_) => self.invalid("after top-level value"),
        }
    }

    /// Enters an object or array; the opening byte has been peeked.
    pub fn enter(&mut self) -> Result<(), Error> {
        self.at += 1;
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(Error::Depth) } else { Ok(()) }
    }

    /// The next key of an object with its colon consumed, or `None` after the last.
    pub fn key(&mut self, first: bool) -> Result<Option<Cow<'i, str>>, Error> {
        let byte = self.peek()?;
        if byte == b'}' {
            self.at += 1;
            self.depth -= 1;
            return Ok(None);
        }
        if !first {
            if byte != b',' {
                return self.invalid("after object key:value pair");
            }
            self.at += 1;
        }
        if self.peek()? != b'"' {
            return self.invalid("looking for beginning of object key string");
        }
        let key = self.string()?;
        if self.peek()? != b':' {
            return self.invalid("after object key");
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// True when another item of an array follows; consumes the comma or the closing bracket.
    pub fn item(&mut self, first: bool) -> Result<bool, Error> {
        match (self.peek()?, first) {
            (b']', _) => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            (_, true) => Ok(true),
            (b',', false) => {
                self.at += 1;
                if self.peek()? == b']' { self.invalid("looking for beginning of value") } else { Ok(true) }
            }
            _ => self.invalid("after array element"),
        }
    }

    /// A string; its opening quote has been peeked.
    pub fn string(&mut self) -> Result<Cow<'i, str>, Error> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.bytes().get(self.at) {
                None => return Err(end()),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Borrowed(&self.text[start..self.at - 1]));
                }
                Some(b'\\') => break,
                Some(0..=0x1f) => return self.invalid("in string literal"),
                Some(_) => self.at += 1,
            }
        }
        let mut out = String::from(&self.text[start..self.at]);
        loop {
            let from = self.at;
            while !matches!(self.bytes().get(self.at), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            out.push_str(&self.text[from..self.at]);
            match self.bytes().get(self.at) {
                None => return Err(end()),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(out));
                }
                Some(b'\\') => self.escape(&mut out)?,
                Some(_) => return self.invalid("in string literal"),
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<(), Error> {
        self.at += 1;
        let byte = *self.bytes().get(self.at).ok_or_else(end)?;
        let c = match byte {
            b'"' | b'\\' | b'/' => byte as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                let c = self.unicode()?;
                out.push(c);
                return Ok(());
            }
            _ => return self.invalid("in string escape code"),
        };
        self.at += 1;
        out.push(c);
        Ok(())
    }

    /// The digits after `\u`; half a surrogate pair becomes the replacement character, as in Go.
    fn unicode(&mut self) -> Result<char, Error> {
        let high = self.hex()?;
        if !(0xD800..0xE000).contains(&high) {
            return Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let before = self.at;
        if high < 0xDC00 && self.bytes()[self.at..].starts_with(b"\\u") {
            self.at += 2;
            let low = self.hex()?;
            if (0xDC00..0xE000).contains(&low) {
                let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = before;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex(&mut self) -> Result<u32, Error> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.bytes().get(self.at).ok_or_else(end)?;
            match (*digit as char).to_digit(16) {
                Some(digit) => code = code * 16 + digit,
                None => return self.invalid("in \\u hexadecimal character escape"),
            }
            self.at += 1;
        }
        Ok(code)
    }

    /// The text of a number; its first byte has been peeked.
    pub fn number(&mut self) -> Result<&'i str, Error> {
        let start = self.at;
        if self.bytes()[self.at] == b'-' {
            self.at += 1;
        }
        match self.bytes().get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.invalid("in numeric literal"),
        }
        if self.bytes().get(self.at) == Some(&b'.') {
            self.at += 1;
            if !self.bytes().get(self.at).is_some_and(u8::is_ascii_digit) {
                return self.invalid("after decimal point in numeric literal");
            }
            self.digits();
        }
        if matches!(self.bytes().get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes().get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if !self.bytes().get(self.at).is_some_and(u8::is_ascii_digit) {
                return self.invalid("in exponent of numeric literal");
            }
            self.digits();
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) {
        while self.bytes().get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    /// `true`, `false` or `null`; its first byte has been peeked.
    pub fn literal(&mut self) -> Result<Value, Error> {
        let (word, value) = match self.bytes()[self.at] {
            b't' => ("true", Value::Bool(true)),
            b'f' => ("false", Value::Bool(false)),
            b'n' => ("null", Value::Null),
            _ => return self.invalid("looking for beginning of value"),
        };
        for expected in word.bytes() {
            if self.bytes().get(self.at) != Some(&expected) {
                return self.invalid(&format!("in literal {word} (expecting '{}')", expected as char));
            }
            self.at += 1;
        }
        Ok(value)
    }

    /// Any value. On a repeated key the last one stays.
    pub fn value(&mut self) -> Result<Value, Error> {
        match self.peek()? {
            b'{' => {
                self.enter()?;
                let mut entries: Vec<(SmolStr, Value)> = Vec::new();
                while let Some(key) = self.key(entries.is_empty())? {
                    entries.push((key.into(), self.value()?));
                }
                Ok(Value::Map(Map::from_unsorted(entries)))
            }
            b'[' => {
                self.enter()?;
                let mut items = Vec::new();
                while self.item(items.is_empty())? {
                    items.push(self.value()?);
                }
                Ok(Value::List(items))
            }
            b'"' => Ok(Value::Str(self.string()?.into())),
            b'-' | b'0'..=b'9' => self.number().map(number),
            _ => self.literal(),
        }
    }

    /// Reads over any value without keeping it.
    pub fn skip(&mut self) -> Result<(), Error> {
        match self.peek()? {
            b'{' => {
                self.enter()?;
                let mut first = true;
                while self.key(first)?.is_some() {
                    first = false;
                    self.skip()?;
                }
            }
            b'[' => {
                self.enter()?;
                let mut first = true;
                while self.item(first)? {
                    first = false;
                    self.skip()?;
                }
            }
            b'"' => drop(self.string()?),
            b'-' | b'0'..=b'9' => drop(self.number()?),
            _ => drop(self.literal()?),
        }
        Ok(())
    }

    /// The text from here on, for reading a value twice.
    pub fn mark(&self) -> usize {
        self.at
    }

    /// The text between a mark and here.
    pub fn since(&self, mark: usize) -> &'i str {
        &self.text[mark..self.at]
    }
}

/// A whole number when it is written as one and fits, else a floating-point number.
pub(super) fn number(text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(i) => Value::Int(i),
        // The lexer let it through, so it parses; beyond the range it is capped as finite.
        Err(_) => Value::Float(text.parse::<f64>().unwrap_or(0.0).clamp(f64::MIN, f64::MAX)),
    }
}

fn end() -> Error {
    Error::Syntax("unexpected end of JSON input".to_owned())
}

/// A character as Go quotes it in a syntax error.
fn quote(c: char) -> String {
    match c {
        '\'' => r"'\''".to_owned(),
        '"' => "'\"'".to_owned(),
        '\n' => r"'\n'".to_owned(),
        '\r' => r"'\r'".to_owned(),
        '\t' => r"'\t'".to_owned(),
        c if (c as u32) < 0x20 => format!(r"'\x{:02x}'", c as u32),
        // Go looks at bytes: the first one of a longer character.
        c if !c.is_ascii() => {
            let mut buffer = [0; 4];
            c.encode_utf8(&mut buffer);
            format!("'{}'", buffer[0] as char)
        }
        c => format!("'{c}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        let mut reader = Reader::new(text);
        match reader.value().and_then(|_| reader.finish()) {
            Err(error) => error.to_string(),
            Ok(()) => "ok".to_owned(),
        }
    }

    #[test]
    fn syntax_errors_read_as_in_go() {
        for (text, expected) in [
            ("", "unexpected end of JSON input"),
            ("{not json", "invalid character 'n' looking for beginning of object key string"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("tru", "unexpected end of JSON input"),
            ("trux", "invalid character 'x' in literal true (expecting 'e')"),
            ("1 2", "invalid character '2' after top-level value"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("[1]", "ok"),
        ] {
            assert_eq!(error(text), expected, "{text}");
        }
    }

    #[test]
    fn strings_unescape() {
        let text = r#""a\u00e9\ud83d\ude00\ud800x\/\n""#;
        assert_eq!(Reader::new(text).value(), Ok(Value::str("aé😀\u{fffd}x/\n")));
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "[".repeat(DEPTH_MAX + 1);
        assert_eq!(Reader::new(&deep).value(), Err(Error::Depth));
    }
}
