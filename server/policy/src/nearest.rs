//! The nearest of some names, for "did you mean".

/// The name nearest to `word`, if any is near; as a clause to end a message with.
pub(crate) fn hint<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, names).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A long word is no typo, and would cost its length times that of every name.
    if word.len() > 64 {
        return None;
    }
    let scored = names.into_iter().map(|name| (distance(word, name), name));
    scored
        .min_by_key(|(score, _)| *score)
        .filter(|(score, name)| *score <= 2.max(name.len() / 3) && *score < name.len())
        .map(|(_, name)| name)
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
        assert_eq!(nearest("zzzzzz", ["topics", "tenants"]), None);
        assert_eq!(hint("lables", ["labels"]), "; did you mean `labels`?");
    }
}
