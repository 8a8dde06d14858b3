//! Pairs of versions: validity, order and token prefix.

use std::cmp::Ordering;
use std::path::PathBuf;

use lycia_apk::version;
use serde_json::Value;

use crate::cases::Count;

pub fn run(paths: &[PathBuf]) -> Count {
    super::cases::compare(paths, &["a", "b", "cmp"], check)
}

fn check(pair: &Value) -> Result<(), String> {
    let text = |key: &str| {
        pair[key]
            .as_str()
            .ok_or_else(|| format!("{pair}: no text {key:?}"))
    };
    let (a, b) = (text("a")?, text("b")?);
    let order = match version::compare(a, b) {
        Ordering::Less => "<",
        Ordering::Equal => "=",
        Ordering::Greater => ">",
    };
    let found = serde_json::json!({
        "a": a,
        "b": b,
        "valid_a": version::is_valid(a),
        "valid_b": version::is_valid(b),
        "cmp": order,
        "a~b": version::has_prefix(a, b),
    });
    if found == *pair {
        Ok(())
    } else {
        Err(format!("expected {pair}\n   found {found}"))
    }
}
