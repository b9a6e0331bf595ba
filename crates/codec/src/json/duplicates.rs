//! Names that stand twice in an object of any JSON: what strict reading of a patch finds.

use super::read::Reader;
use crate::Error;

/// Upstream reports no more than this many.
const MAX: usize = 100;

/// `duplicate field "spec.a[0].b"` for every repeated name, in the body's order.
pub fn duplicates(body: &[u8]) -> Result<Vec<String>, Error> {
    let text = String::from_utf8_lossy(body);
    let mut scan = Scan { reader: Reader::new(&text), path: String::new(), found: Vec::new() };
    scan.value()?;
    scan.reader.finish()?;
    Ok(scan.found)
}

struct Scan<'i> {
    reader: Reader<'i>,
    path: String,
    found: Vec<String>,
}

impl Scan<'_> {
    fn value(&mut self) -> Result<(), Error> {
        match self.reader.peek()? {
            b'{' => self.object(),
            b'[' => self.list(),
            _ => self.reader.skip(),
        }
    }

    fn object(&mut self) -> Result<(), Error> {
        self.reader.enter()?;
        let (before, mut names) = (self.path.len(), std::collections::HashSet::new());
        let mut first = true;
        while let Some(key) = self.reader.key(std::mem::take(&mut first))? {
            let key = key.into_owned();
            if !self.path.is_empty() {
                self.path.push('.');
            }
            self.path.push_str(&key);
            if !names.insert(key) && self.found.len() < MAX {
                self.found.push(format!("duplicate field \"{}\"", self.path));
            }
            self.value()?;
            self.path.truncate(before);
        }
        Ok(())
    }

    fn list(&mut self) -> Result<(), Error> {
        self.reader.enter()?;
        let before = self.path.len();
        let mut index = 0;
        while self.reader.item(index == 0)? {
            self.path.push_str(&format!("[{index}]"));
            self.value()?;
            self.path.truncate(before);
            index += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_names_that_repeat() {
        let body = br#"{"a":1,"b":[{"c":1,"c":2}],"a":{"x":[]},"d":{"a":1}}"#;
        assert_eq!(duplicates(body).unwrap(), ["duplicate field \"b[0].c\"", "duplicate field \"a\""]);
        assert!(duplicates(b"{").is_err());
        assert!(duplicates(b"[1,\"x\",null]").unwrap().is_empty());
    }
}
