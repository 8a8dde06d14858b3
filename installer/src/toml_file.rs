//! TOML files of people: an unknown key is refused with its line and the nearest key that there is.

/// Why a file is not what it should be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{name}{}: {what}{}", line.map(|line| format!(", line {line}")).unwrap_or_default(),
    near.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
pub struct TomlError {
    /// The file.
    pub name: String,
    /// Counted from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// The key that was probably meant.
    pub near: Option<String>,
}

/// Reads `text`, which is called `name` in messages.
///
/// # Errors
/// When it is not TOML or not what `T` describes.
pub fn parse<T: serde::de::DeserializeOwned>(text: &str, name: &str) -> Result<T, TomlError> {
    toml::from_str(text).map_err(|error| TomlError {
        name: name.to_owned(),
        line: error
            .span()
            .map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count()),
        what: error.message().to_owned(),
        near: suggestion(error.message()),
    })
}

/// The known key that is nearest to the unknown one of serde's message.
fn suggestion(message: &str) -> Option<String> {
    let rest = message
        .strip_prefix("unknown field `")
        .or_else(|| message.strip_prefix("unknown variant `"))?;
    let (unknown, rest) = rest.split_once('`')?;
    nearest(unknown, rest.split('`').skip(1).step_by(2)).map(str::to_owned)
}

/// The word of `known` that is nearest to `word`, if one is near enough to be a slip of the hand.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1) + 1;
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Insertions, removals and replacements between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
