//! Sets of completion indexes, written as `0-2,4,7,8`.

use std::collections::BTreeSet;
use std::fmt;

/// A set of indexes below the number of completions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Indexes(BTreeSet<i32>);

impl Indexes {
    /// Reads what a status or a rule says; what is not below `completions`, or no number, is left out.
    pub fn parse(text: &str, completions: i32) -> Self {
        let mut set = BTreeSet::new();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
                set.extend(first.max(0)..=last.min(completions - 1));
            }
        }
        Self(set)
    }

    /// How many.
    pub fn len(&self) -> i32 {
        i32::try_from(self.0.len()).unwrap_or(i32::MAX)
    }

    /// True if `index` is in it.
    pub fn has(&self, index: i32) -> bool {
        self.0.contains(&index)
    }

    /// Puts `index` in.
    pub fn insert(&mut self, index: i32) {
        self.0.insert(index);
    }

    /// How many are in both.
    pub fn common(&self, other: &Self) -> i32 {
        i32::try_from(self.0.intersection(&other.0).count()).unwrap_or(i32::MAX)
    }
}

impl FromIterator<i32> for Indexes {
    fn from_iter<I: IntoIterator<Item = i32>>(indexes: I) -> Self {
        Self(indexes.into_iter().collect())
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut indexes = self.0.iter().copied().peekable();
        let mut is_first = true;
        while let Some(first) = indexes.next() {
            let mut last = first;
            while let Some(next) = indexes.next_if_eq(&(last + 1)) {
                last = next;
            }
            if !is_first {
                f.write_str(",")?;
            }
            is_first = false;
            match last - first {
                0 => write!(f, "{first}")?,
                1 => write!(f, "{first},{last}")?,
                _ => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_sets() {
        for (text, completions, expected) in
            [("", 5, ""), ("0-2,4", 5, "0-2,4"), ("0,1,3", 5, "0,1,3"), ("0-9", 3, "0-2"), ("x,1", 3, "1")]
        {
            assert_eq!(Indexes::parse(text, completions).to_string(), expected, "{text}");
        }
    }
}
