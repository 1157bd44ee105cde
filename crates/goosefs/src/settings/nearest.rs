//! Finds the key somebody meant.
//!
//! Is:     an edit distance and a search over it.
//! Owns:   nothing.
//! Never:  decides that a key is wrong.

/// The candidate closest to `word`, unless even that one is too far away to be meant: further than a third of the word.
///
/// Cost: one distance per candidate, each `word.len() × candidate.len()` steps.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let bound = (word.len() / 3).max(2);
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(d, _)| *d <= bound)
        .min()
        .map(|(_, c)| c)
}

/// How many characters must be inserted, dropped, replaced or swapped with their neighbour to turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, steps) in [("", "abc", 3), ("port", "port", 0), ("prot", "port", 1), ("kitten", "sitting", 3)] {
            assert_eq!(distance(a, b), steps, "{a} {b}");
        }
    }

    #[test]
    fn far_away_words_are_not_suggested() {
        let keys = ["goosefs.master.rpc.port", "goosefs.worker.rpc.port"];
        assert_eq!(nearest("goosefs.master.rcp.port", keys.into_iter()), Some("goosefs.master.rpc.port"));
        assert_eq!(nearest("completely.different", keys.into_iter()), None);
    }
}
