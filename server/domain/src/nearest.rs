//! The nearest of some names, for "did you mean".

/// A longer word is no typo, and would cost its length times that of every name.
const WORD_LEN_MAX: usize = 64;

/// The name nearest to `word`, if any is near. Case does not count.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > WORD_LEN_MAX {
        return None;
    }
    let word = word.to_lowercase();
    let scored = names.into_iter().map(|name| (distance(&word, &name.to_lowercase()), name));
    scored
        .min_by_key(|(edits, _)| *edits)
        .filter(|(edits, name)| *edits <= 2.max(name.len() / 3) && *edits < name.len())
        .map(|(_, name)| name)
}

/// The same as a clause to end a message with; empty if none is near.
pub fn hint<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, names).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

/// The name that a message with a [`hint`] at its end suggests.
pub fn hinted(message: &str) -> Option<&str> {
    let (_, name) = message.strip_suffix("`?")?.rsplit_once("; did you mean `")?;
    Some(name)
}

/// Edits between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_name_and_noise_finds_none() {
        assert_eq!(nearest("topcs", ["topics", "tenants"]), Some("topics"));
        assert_eq!(nearest("SUCCEDED", ["SUCCEEDED", "FAILED"]), Some("SUCCEEDED"));
        assert_eq!(nearest("and", ["AND", "OR"]), Some("AND"));
        assert_eq!(nearest("zzzzzz", ["topics", "tenants"]), None);
        assert_eq!(nearest(&"x".repeat(10_000), ["topics"]), None);
        assert_eq!(hint("lables", ["labels"]), "; did you mean `labels`?");
        let told = format!("is no key here{}", hint("lables", ["labels"]));
        assert_eq!(hinted(&told), Some("labels"));
        assert_eq!((hinted("is blank"), hinted("`?"), hinted("")), (None, None, None));
    }
}
