//! Error texts with their place in the source, as cel-go prints them.

/// Most errors that are told of one expression.
const MAX_ERRORS: usize = 100;

/// An error at an offset, counted in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issue {
    pub offset: Option<usize>,
    pub message: String,
}

/// All errors, each with the line it is on and a mark below its column.
pub(crate) fn render(source: &[char], issues: &[Issue]) -> String {
    let mut texts: Vec<String> = issues.iter().take(MAX_ERRORS).map(|issue| one(source, issue)).collect();
    if issues.len() > MAX_ERRORS {
        texts.push(format!("{} more errors were truncated", issues.len() - MAX_ERRORS));
    }
    texts.join("\n")
}

fn one(source: &[char], issue: &Issue) -> String {
    let Some(offset) = issue.offset else { return format!("ERROR: <input>:-1:0: {}", issue.message) };
    if source.is_empty() {
        return format!("ERROR: <input>:1:0: {}", issue.message);
    }
    let before = &source[..offset.min(source.len())];
    let line = before.iter().filter(|c| **c == '\n').count() + 1;
    let start = before.iter().rposition(|c| *c == '\n').map_or(0, |at| at + 1);
    let text: Vec<char> = source[start..].iter().take_while(|c| **c != '\n').copied().collect();
    let column = before.len() - start;
    let shown: String = text.iter().map(|c| if *c == '\t' { ' ' } else { *c }).collect();
    let wide = |c: &char| c.len_utf8() > 1;
    let dots: String = text.iter().take(column).map(|c| if wide(c) { '．' } else { '.' }).collect();
    let mark = if text.get(column).is_some_and(wide) { '＾' } else { '^' };
    format!("ERROR: <input>:{line}:{}: {}\n | {shown}\n | {dots}{mark}", column + 1, issue.message)
}
