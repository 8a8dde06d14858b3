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
        what: without_values(error.message()),
        near: suggestion(error.message()),
    })
}

/// A message without texts of the file: what stands in the wrong place may be a secret, and messages go to logs.
fn without_values(message: &str) -> String {
    let (Some(start), Some(end)) = (message.find("string \""), message.rfind("\", expected")) else {
        return message.to_owned();
    };
    format!(
        "{}a text{}",
        &message[..start],
        message.get(end + 1..).unwrap_or_default()
    )
}

/// The known key that is nearest to the unknown one of serde's message.
fn suggestion(message: &str) -> Option<String> {
    let rest = message
        .strip_prefix("unknown field `")
        .or_else(|| message.strip_prefix("unknown variant `"))?;
    let (unknown, rest) = rest.split_once('`')?;
    nearest(unknown, rest.split('`').skip(1).step_by(2)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    #[allow(dead_code, reason = "only read into")]
    struct Wanted {
        number: u32,
        flag: bool,
        text: String,
        list: Vec<u32>,
    }

    #[test]
    fn no_message_repeats_a_value() {
        for text in [
            r#"number = "sec\"ret""#,
            r#"flag = "secret""#,
            r#"list = "secret""#,
            r#"list = ["secret"]"#,
            r#"text = "secret"#,
            r#"text = secret"#,
            r#"text = "secret" secret"#,
            "[text]\na = \"secret\"",
            "number = \"\"\"secret\n\"\"\"",
        ] {
            let error = parse::<Wanted>(text, "a").unwrap_err().to_string();
            assert!(!error.contains("ret"), "{text}: {error}");
        }
        let error = parse::<Wanted>("number = \"secret\"", "a").unwrap_err();
        assert_eq!(error.to_string(), "a, line 1: invalid type: a text, expected u32");
        let error = parse::<Wanted>("nummer = 1", "a").unwrap_err().to_string();
        assert!(error.contains("did you mean `number`?"), "{error}");
    }
}
