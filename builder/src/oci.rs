//! OCI image archives: an image layout (OCI image specification 1.1, `image-layout.md`) in a tar file, as `podman load`,
//! `skopeo` and `docker load` read it.

use std::io::Write;
use std::path::Path;

use lycia_media::tar;
use lycia_tree::{Content, Metadata, Pack, Timestamp, Tree};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::archive::{self, Base, Delta};
use crate::blocks::Blocks;
use crate::definition::{Compression, Image};
use crate::error::{Error, Explain as _, Kind, Result, io};
use crate::hashing::Hashing;
use crate::manifest::{self, hex};
use crate::store::{Aside, Store};

/// Media types.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What GOARCH calls an architecture of apk, with the variant where there is one.
fn platform(arch: &str) -> (&str, Option<&'static str>) {
    match arch {
        "x86_64" => ("amd64", None),
        "x86" => ("386", None),
        "aarch64" => ("arm64", None),
        "armhf" => ("arm", Some("v6")),
        "armv7" => ("arm", Some("v7")),
        "loongarch64" => ("loong64", None),
        // ppc64, ppc64le, riscv64, s390x are called the same.
        other => (other, None),
    }
}

/// A compressed layer.
struct Layer {
    content: Content,
    digest: String,
    size: u64,
    diff_id: String,
    media_type: String,
    /// Keeps the file that the content is of.
    _file: Option<Aside>,
}

/// Writes the archive of a root to `out`: one layer, or that of the base and what differs from it. Says how many compressed blocks
/// were known.
///
/// # Errors
/// When the root does not fit the format, or a file cannot be written.
pub fn write(
    out: &mut impl Write,
    image: &Image,
    tree: &Tree,
    time: Timestamp,
    base: Option<(&Path, &Base, &Delta)>,
    store: &Store,
    jobs: usize,
) -> Result<String> {
    no_whiteouts(tree)?;
    let compression = image.oci.compression;
    let blocks = Blocks::open(store)?;
    let packing = Packing {
        compression,
        store,
        blocks: &blocks,
        jobs,
    };
    let mut layers = Vec::new();
    if let Some((path, base, _)) = base {
        layers.push(base_layer(path, base, &packing)?);
    }
    layers.push(layer(&packing, |mut out| {
        archive::write(&mut out, tree, base.map(|(_, _, delta)| (delta, true))).map(drop)
    })?);
    let known = blocks.finish();

    let created = rfc3339(time.seconds);
    let (architecture, variant) = platform(&image.arch);
    let mut config = Map::new();
    let list = |words: &[String]| (!words.is_empty()).then(|| json!(words));
    for (key, value) in [
        ("Entrypoint", list(&image.oci.entrypoint)),
        ("Cmd", list(&image.oci.command)),
        ("Env", list(&image.oci.environment)),
        ("WorkingDir", image.oci.directory.as_ref().map(|one| json!(one))),
        ("User", image.oci.user.as_ref().map(|one| json!(one))),
        (
            "Labels",
            (!image.oci.labels.is_empty()).then(|| json!(image.oci.labels)),
        ),
    ] {
        if let Some(value) = value {
            config.insert(key.to_owned(), value);
        }
    }
    let history: Vec<Value> = (0..layers.len())
        .map(|at| {
            let what = if at + 1 < layers.len() {
                "base"
            } else {
                &image.name
            };
            json!({ "created": created, "created_by": format!("lycia build {what}") })
        })
        .collect();
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| format!("sha256:{}", layer.diff_id))
        .collect();
    let mut described = json!({
        "created": created,
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": history,
    });
    if let Some(variant) = variant {
        described["variant"] = json!(variant);
    }
    let mut blobs: Vec<(String, Content)> = Vec::new();
    let mut blob = |value: &Value| -> Result<(String, usize)> {
        let bytes = serde_json::to_vec(value).explain(Kind::Internal, || "writing JSON".to_owned())?;
        let (digest, size) = (hex(&Sha256::digest(&bytes)), bytes.len());
        blobs.push((digest.clone(), bytes.into()));
        Ok((digest, size))
    };
    let (config_digest, config_size) = blob(&described)?;
    let listed: Vec<Value> = layers
        .iter()
        .map(|layer| {
            json!({
                "mediaType": layer.media_type,
                "digest": format!("sha256:{}", layer.digest),
                "size": layer.size,
            })
        })
        .collect();
    let (manifest_digest, manifest_size) = blob(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "digest": format!("sha256:{config_digest}"), "size": config_size },
        "layers": listed,
    }))?;
    let mut of = json!({ "architecture": architecture, "os": "linux" });
    if let Some(variant) = variant {
        of["variant"] = json!(variant);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [{
            "mediaType": MANIFEST,
            "digest": format!("sha256:{manifest_digest}"),
            "size": manifest_size,
            "platform": of,
            "annotations": { "org.opencontainers.image.ref.name": "latest" },
        }],
    });
    blobs.extend(
        layers
            .iter()
            .map(|layer| (layer.digest.clone(), layer.content.clone())),
    );

    let mut files = Tree::new(Metadata::new(0o755, time));
    let mut put = |path: String, content: Content| {
        files
            .write(path.as_bytes(), Metadata::new(0o644, time), content)
            .map(drop)
            .explain(Kind::Internal, || "laying out the image".to_owned())
    };
    put(
        "oci-layout".to_owned(),
        r#"{"imageLayoutVersion":"1.0.0"}"#.into(),
    )?;
    put("index.json".to_owned(), index.to_string().into())?;
    for (digest, content) in blobs {
        put(format!("blobs/sha256/{digest}"), content)?;
    }
    tar::write_tree(out, &files, &tar::Options::default())
        .map(|_| known)
        .map_err(|error| {
            let kind = match &error {
                tar::TarError::Write(_) => Kind::Host,
                _ => Kind::Target,
            };
            Error::new(kind, error).context("writing the image")
        })
}

/// A layer says with such names what is gone: files that have one cannot be in an image.
fn no_whiteouts(tree: &Tree) -> Result<()> {
    match tree.walk().find(|entry| entry.name().starts_with(archive::WHITEOUT)) {
        None => Ok(()),
        Some(entry) => Err(Error::new(
            Kind::Target,
            format!(
                "the root has {}, and a container image cannot: in a layer the name says that something is gone",
                lycia_tree::display(&entry.path)
            ),
        )
        .hint("leave it out of the root, or \"oci\" out of the outputs")
        .context("writing the image")),
    }
}

/// How layers are compressed, and where.
struct Packing<'a> {
    compression: Compression,
    store: &'a Store,
    blocks: &'a Blocks,
    jobs: usize,
}

/// Compresses what `fill` writes into a file of the store.
fn layer(packing: &Packing<'_>, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<Layer> {
    let Packing {
        compression,
        store,
        blocks,
        jobs,
    } = *packing;
    let mut file = Aside::new(&store.folder("scratch")?.join("layer.tar"))?;
    let out = Hashing::new(file.file());
    let (out, diff_id) = archive::compressed(out, compression, jobs, Some(blocks), |encoder| {
        let mut plain = Hashing::new(encoder);
        fill(&mut plain)?;
        Ok(plain.finish().1)
    })?;
    let (_, digest, size) = out.finish();
    let content = mapped(&file.path(), size)?;
    Ok(Layer {
        content,
        digest,
        size,
        diff_id,
        media_type: media_type(compression),
        _file: Some(file),
    })
}

fn media_type(compression: Compression) -> String {
    match compression {
        Compression::Zstd(_) => format!("{LAYER}+zstd"),
        _ => format!("{LAYER}+gzip"),
    }
}

/// The base as a layer: the file as it is, where layers may be compressed so.
fn base_layer(path: &Path, base: &Base, packing: &Packing<'_>) -> Result<Layer> {
    use lycia_media::compress::Format;
    let media_type = match base.format {
        Some(Format::Gzip) => format!("{LAYER}+gzip"),
        Some(Format::Zstd) => format!("{LAYER}+zstd"),
        None => LAYER.to_owned(),
        Some(Format::Xz) => {
            // There are no layers in xz.
            let again = layer(packing, |mut out| {
                let (_, mut reader) = archive::open(path)?;
                let copied = std::io::copy(&mut reader, &mut out);
                io(copied, || format!("reading the base {}", path.display())).map(drop)
            })?;
            if again.diff_id != base.diff_id {
                return Err(changed(path));
            }
            return Ok(again);
        }
    };
    let doing = || format!("reading the base {}", path.display());
    let size = io(path.metadata(), doing)?.len();
    let content = mapped(path, size)?;
    let digest = manifest::sum(&content);
    Ok(Layer {
        content,
        digest,
        size,
        diff_id: base.diff_id.clone(),
        media_type,
        _file: None,
    })
}

fn changed(path: &Path) -> Error {
    Error::new(
        Kind::Input,
        format!("the base {} changed while it was read", path.display()),
    )
}

fn mapped(path: &Path, size: u64) -> Result<Content> {
    let doing = || format!("reading {}", path.display());
    let pack = Pack::open(path, size).explain(Kind::Host, doing)?;
    pack.range(0, size).explain(Kind::Internal, doing)
}

/// Seconds since 1970 as RFC 3339 has them, in UTC.
pub(crate) fn rfc3339(seconds: i64) -> String {
    // Days to civil date: the algorithm of Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms".
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_would_be_a_whiteout_is_refused() {
        let mut tree = Tree::new(Metadata::new(0o755, Timestamp::default()));
        let mut put = |path: &[u8]| {
            let metadata = || Metadata::new(0o755, Timestamp::default());
            tree.make_directories(b"srv/.wh", metadata()).unwrap();
            tree.write(path, metadata(), "x".into()).unwrap();
            no_whiteouts(&tree)
        };
        put(b"srv/a.wh.b").unwrap();
        put(b"srv/.wh/x").unwrap();
        let error = put(b"srv/.wh.gone").unwrap_err();
        assert_eq!(error.kind(), Kind::Target);
        assert!(error.to_string().contains("/srv/.wh.gone"), "{error}");
    }

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }

    #[test]
    fn architectures_have_the_names_of_go() {
        assert_eq!(platform("x86_64"), ("amd64", None));
        assert_eq!(platform("armv7"), ("arm", Some("v7")));
        assert_eq!(platform("riscv64"), ("riscv64", None));
    }
}
