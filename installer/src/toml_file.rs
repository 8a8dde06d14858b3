//! TOML files of people: an unknown key is refused with its line and the nearest key that there is.

pub use lycia_dinit::suggest::nearest;

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
