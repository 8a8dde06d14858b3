//! "Did you mean": the nearest of a list of known words.

/// The known word that differs least from `word`, if any is near enough to be a slip of the hand.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let limit = 1 + word.chars().count() / 4;
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(distance, _)| distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `" (did you mean `x`?)"` or nothing, for the end of a message.
pub fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known)
        .map(|found| format!(" (did you mean `{found}`?)"))
        .unwrap_or_default()
}

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(last[j] + 1).min(row[j - 1] + 1);
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
    fn finds_slips_only() {
        let known = ["command", "depends-on", "depends-ms", "waits-for", "type"];
        assert_eq!(nearest("comand", known), Some("command"));
        assert_eq!(nearest("tpye", known), Some("type"));
        assert_eq!(nearest("wait-for", known), Some("waits-for"));
        assert_eq!(nearest("nonsense", known), None);
        assert_eq!(nearest(&"x".repeat(1000), known), None);
        assert_eq!(hint("depend-on", known), " (did you mean `depends-on`?)");
    }
}
