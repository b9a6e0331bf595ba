//! Words that are no names.

/// The language's own words.
const KEYWORDS: [&str; 4] = ["false", "in", "null", "true"];
/// Words that are kept for other languages (the language definition's `RESERVED`).
const KEPT: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "namespace",
    "package",
    "return",
    "var",
    "void",
    "while",
];

/// Whether a word that reads like a name is kept for other languages.
pub(crate) fn is_kept(word: &str) -> bool {
    KEPT.contains(&word)
}

/// Whether no variable or field may have this name.
pub fn is_reserved(word: &str) -> bool {
    KEYWORDS.contains(&word) || is_kept(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_words_of_the_language() {
        for word in ["true", "in", "namespace", "while"] {
            assert!(is_reserved(word), "{word}");
        }
        for name in ["object", "whiles", "True", ""] {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
