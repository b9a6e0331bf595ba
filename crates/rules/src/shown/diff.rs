//! A unified difference of lines, found as Python's `difflib` finds it, which is what upstream's messages hold.

use std::collections::HashMap;

/// Lines around a change that are shown.
const CONTEXT: usize = 3;
/// From this many lines on, lines that occur often are no anchors.
const POPULAR_FROM: usize = 200;

/// Equal runs: start in the first text, start in the second, length.
type Block = (usize, usize, usize);

struct Matcher<'a> {
    old: &'a [String],
    new: &'a [String],
    places: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Matcher<'a> {
    fn new(old: &'a [String], new: &'a [String]) -> Self {
        let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
        for (i, line) in new.iter().enumerate() {
            places.entry(line).or_default().push(i);
        }
        if new.len() >= POPULAR_FROM {
            let most = new.len() / 100 + 1;
            places.retain(|_, at| at.len() <= most);
        }
        Self { old, new, places }
    }

    fn longest(&self, old: (usize, usize), new: (usize, usize)) -> Block {
        let (mut best_old, mut best_new, mut best) = (old.0, new.0, 0);
        let mut lengths: HashMap<usize, usize> = HashMap::new();
        for i in old.0..old.1 {
            let mut next = HashMap::new();
            for &j in self.places.get(self.old[i].as_str()).map_or(&[][..], Vec::as_slice) {
                if j < new.0 {
                    continue;
                }
                if j >= new.1 {
                    break;
                }
                let length = j.checked_sub(1).and_then(|j| lengths.get(&j)).copied().unwrap_or(0) + 1;
                next.insert(j, length);
                if length > best {
                    (best_old, best_new, best) = (i + 1 - length, j + 1 - length, length);
                }
            }
            lengths = next;
        }
        // Popular lines do not begin a run, but belong to one that they touch.
        while best_old > old.0 && best_new > new.0 && self.old[best_old - 1] == self.new[best_new - 1] {
            (best_old, best_new, best) = (best_old - 1, best_new - 1, best + 1);
        }
        while best_old + best < old.1
            && best_new + best < new.1
            && self.old[best_old + best] == self.new[best_new + best]
        {
            best += 1;
        }
        (best_old, best_new, best)
    }

    fn blocks(&self) -> Vec<Block> {
        let mut found = Vec::new();
        let mut todo = vec![((0, self.old.len()), (0, self.new.len()))];
        while let Some((old, new)) = todo.pop() {
            let (i, j, length) = self.longest(old, new);
            if length > 0 {
                found.push((i, j, length));
                todo.push(((old.0, i), (new.0, j)));
                todo.push(((i + length, old.1), (j + length, new.1)));
            }
        }
        found.sort_unstable();
        let mut joined: Vec<Block> = Vec::new();
        for (i, j, length) in found {
            match joined.last_mut() {
                Some(last) if last.0 + last.2 == i && last.1 + last.2 == j => last.2 += length,
                _ => joined.push((i, j, length)),
            }
        }
        joined
    }
}

/// What turns a range of the old lines into a range of the new ones; equal ranges are among them.
#[derive(Clone, Copy)]
struct Step {
    old: (usize, usize),
    new: (usize, usize),
    equal: bool,
}

fn steps(old: &[String], new: &[String]) -> Vec<Step> {
    let mut out = Vec::new();
    let (mut i, mut j) = (0, 0);
    let mut blocks = Matcher::new(old, new).blocks();
    blocks.push((old.len(), new.len(), 0));
    for (at_old, at_new, length) in blocks {
        if i < at_old || j < at_new {
            out.push(Step { old: (i, at_old), new: (j, at_new), equal: false });
        }
        if length > 0 {
            out.push(Step { old: (at_old, at_old + length), new: (at_new, at_new + length), equal: true });
        }
        (i, j) = (at_old + length, at_new + length);
    }
    out
}

/// Changes that lie near each other, with the lines around them.
fn hunks(mut steps: Vec<Step>) -> Vec<Vec<Step>> {
    if let Some(first) = steps.first_mut().filter(|s| s.equal) {
        first.old.0 = first.old.0.max(first.old.1.saturating_sub(CONTEXT));
        first.new.0 = first.new.0.max(first.new.1.saturating_sub(CONTEXT));
    }
    if let Some(last) = steps.last_mut().filter(|s| s.equal) {
        last.old.1 = last.old.1.min(last.old.0 + CONTEXT);
        last.new.1 = last.new.1.min(last.new.0 + CONTEXT);
    }
    let mut out = Vec::new();
    let mut hunk = Vec::new();
    for mut step in steps {
        if step.equal && step.old.1 - step.old.0 > 2 * CONTEXT {
            hunk.push(Step {
                old: (step.old.0, step.old.0 + CONTEXT),
                new: (step.new.0, step.new.0 + CONTEXT),
                equal: true,
            });
            out.push(std::mem::take(&mut hunk));
            step.old.0 = step.old.1 - CONTEXT;
            step.new.0 = step.new.1 - CONTEXT;
        }
        hunk.push(step);
    }
    out.push(hunk);
    out.retain(|hunk| hunk.iter().any(|step| !step.equal));
    out
}

fn range((start, end): (usize, usize)) -> String {
    match end - start {
        1 => format!("{}", start + 1),
        0 => format!("{start},0"),
        length => format!("{},{length}", start + 1),
    }
}

/// The difference, every line with its end; empty for equal texts.
pub(crate) fn unified(old: &[String], new: &[String]) -> String {
    let mut out = String::new();
    let lines = |mark: char, lines: &[String], out: &mut String| {
        for line in lines {
            out.push(mark);
            out.push_str(line);
            out.push('\n');
        }
    };
    for hunk in hunks(steps(old, new)) {
        let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { continue };
        let (from, to) = ((first.old.0, last.old.1), (first.new.0, last.new.1));
        out.push_str(&format!("@@ -{} +{} @@\n", range(from), range(to)));
        for step in &hunk {
            if step.equal {
                lines(' ', &old[step.old.0..step.old.1], &mut out);
            } else {
                lines('-', &old[step.old.0..step.old.1], &mut out);
                lines('+', &new[step.new.0..step.new.1], &mut out);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn shows_changes_with_context() {
        let old = lines("a b c d e f g h i j k l m n o p");
        let new = lines("a b c d X f g h i j k l m n p q");
        assert_eq!(
            unified(&old, &new),
            "@@ -2,7 +2,7 @@\n b\n c\n d\n-e\n+X\n f\n g\n h\n@@ -12,5 +12,5 @@\n l\n m\n n\n-o\n p\n+q\n"
        );
        assert_eq!(unified(&old, &old), "");
    }
}
