//! Netlink messages and attributes as bytes.

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// The bits of an attribute's type that are the type.
const TYPE_MASK: u16 = 0x3fff;
/// Bytes of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// Puts messages together, one after the other.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
    start: usize,
}

impl Encoder {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a message of `kind` (`nlmsg_type`); [`Encoder::end`] completes it.
    pub fn begin(&mut self, kind: u16, flags: u16, seq: u32) {
        self.start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&seq.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
    }

    /// Completes the message begun last.
    pub fn end(&mut self) {
        let length = (self.bytes.len() - self.start) as u32;
        self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
        self.pad();
    }

    /// Adds flags to the message that was begun last.
    pub(crate) fn add_flags(&mut self, flags: u16) {
        let at = self.start + 6;
        let old = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]);
        self.bytes[at..at + 2].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    /// Appends bytes as they are: a family's own header.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    /// An attribute.
    pub fn attr(&mut self, kind: u16, value: &[u8]) {
        debug_assert!(value.len() + 4 <= usize::from(u16::MAX));
        self.bytes.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value);
    }

    /// An attribute that ends in a zero byte.
    pub fn attr_str(&mut self, kind: u16, value: &str) {
        self.attr(kind, &[value.as_bytes(), b"\0"].concat());
    }

    /// An attribute of four bytes in the machine's order.
    pub fn attr_u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    /// An attribute of four bytes in the network's order.
    pub fn attr_be32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// An attribute of eight bytes in the network's order.
    pub fn attr_be64(&mut self, kind: u16, value: u64) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// An attribute made of what `inside` adds. Its size must stay below 64 KiB.
    pub fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        inside(self);
        let length = self.bytes.len() - at;
        debug_assert!(length <= usize::from(u16::MAX), "nested attribute {kind} is too large");
        self.bytes[at..at + 2].copy_from_slice(&(length as u16).to_ne_bytes());
    }

    /// All messages.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The attributes in a run of bytes, as type and value. What is malformed ends the run.
#[derive(Debug, Clone)]
pub struct Attrs<'a>(pub &'a [u8]);

impl<'a> Attrs<'a> {
    /// The value of the first attribute of `kind`.
    pub fn find(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone().find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// The attributes within the first attribute of `kind`.
    pub fn nested(&self, kind: u16) -> Attrs<'a> {
        Attrs(self.find(kind).unwrap_or_default())
    }

    /// A number in the machine's order.
    pub fn u32(&self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.find(kind)?.try_into().ok()?))
    }

    /// A number in the network's order.
    pub fn be32(&self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.find(kind)?.try_into().ok()?))
    }

    /// A number in the network's order.
    pub fn be64(&self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.find(kind)?.try_into().ok()?))
    }

    /// A text that ends in a zero byte.
    pub fn str(&self, kind: u16) -> Option<&'a str> {
        let value = self.find(kind)?;
        std::str::from_utf8(value.strip_suffix(b"\0").unwrap_or(value)).ok()
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let head = self.0.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_as_they_went_in() {
        let mut encoder = Encoder::new();
        encoder.begin(7, 1, 9);
        encoder.attr_str(1, "eth0");
        encoder.nest(2, |inside| {
            inside.attr_be32(3, 0x0102_0304);
            inside.attr(4, b"x");
        });
        encoder.end();
        assert_eq!(encoder.bytes().len() % 4, 0);
        let attrs = Attrs(&encoder.bytes()[HEADER..]);
        assert_eq!(attrs.str(1), Some("eth0"));
        assert_eq!(attrs.nested(2).be32(3), Some(0x0102_0304));
        assert_eq!(attrs.nested(2).find(4), Some(&b"x"[..]));
        assert_eq!(attrs.find(9), None);
        assert_eq!(Attrs(&[9, 0, 1]).next(), None);
    }
}
