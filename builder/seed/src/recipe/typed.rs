//! Recipes as they are typed: one struct per table, unknown keys refused.

use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Recipe {
    pub name: Spanned<String>,
    pub version: Spanned<String>,
    pub summary: String,
    #[serde(default)]
    pub url: String,
    #[serde(default)]
    pub license: String,
    #[serde(default)]
    pub maintainer: String,
    #[serde(default)]
    pub needs: Vec<Spanned<String>>,
    #[serde(default)]
    pub tools: Vec<String>,
    #[serde(default)]
    pub cost: u32,
    pub epoch: Option<u64>,
    #[serde(default)]
    pub sysroot: Vec<Spanned<String>>,
    #[serde(default)]
    pub unpackaged: Vec<Spanned<String>>,
    pub skip_if: Option<String>,
    #[serde(default)]
    pub source: Vec<Spanned<Source>>,
    #[serde(default)]
    pub step: Vec<Spanned<Step>>,
    #[serde(default)]
    pub package: Vec<Spanned<Package>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Source {
    pub kind: Spanned<String>,
    pub unpack: Option<String>,
    #[serde(default)]
    pub patches: Vec<String>,
    pub strip: Option<u32>,
    #[serde(default)]
    pub raw: bool,
    pub sha256: Option<String>,
    pub file: Option<String>,
    pub source: Option<String>,
    pub component: Option<String>,
    pub package: Option<String>,
    pub name: Option<String>,
    pub version: Option<String>,
    pub newest_matching: Option<String>,
    pub suite: Option<String>,
    pub arch: Option<String>,
    pub path: Option<String>,
    #[serde(default)]
    pub paths: Vec<String>,
    #[serde(default)]
    pub exclude: Vec<String>,
    #[serde(default)]
    pub crates: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Step {
    pub name: String,
    pub run: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Package {
    pub name: String,
    pub version: Option<String>,
    pub description: Option<String>,
    pub url: Option<String>,
    pub license: Option<String>,
    pub arch: Option<String>,
    #[serde(default)]
    pub depends: Vec<String>,
    #[serde(default)]
    pub provides: Vec<String>,
    #[serde(default)]
    pub replaces: Vec<String>,
    #[serde(default)]
    pub replaces_priority: u64,
    #[serde(default)]
    pub provider_priority: u64,
    #[serde(default)]
    pub install_if: Vec<String>,
    #[serde(default)]
    pub recommends: Vec<String>,
    #[serde(default)]
    pub triggers: Vec<String>,
    #[serde(default)]
    pub scripts: BTreeMap<String, String>,
    #[serde(default)]
    pub files: Vec<Spanned<String>>,
    #[serde(default)]
    pub entry: Vec<Spanned<Entry>>,
    pub elf_scan: Option<bool>,
    #[serde(default)]
    pub so_ignore: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Entry {
    pub path: String,
    pub kind: Option<String>,
    pub mode: Option<String>,
    pub owner: Option<String>,
    pub group: Option<String>,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub target: Option<String>,
}
