//! Bills of materials: SPDX 2.3 and CycloneDX 1.6 as JSON.
//!
//! Formats: the SPDX specification 2.3, the CycloneDX specification 1.6, the package URL specification with its type `apk`. Nothing
//! in them is of the moment: they are dated as the image is, and named by the hash of what they say.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lycia_apk::metadata::{Digest as Identity, PackageInfo};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::build::Written;
use crate::choice::Choice;
use crate::lock::{Lock, LockedPackage};
use crate::manifest::hex;
use crate::oci::rfc3339;
use crate::packages::Chosen;
use crate::root::Root;

const TOOL: &str = concat!("lycia-", env!("CARGO_PKG_VERSION"));
const HOME: &str = env!("CARGO_PKG_REPOSITORY");

/// What both documents say.
struct Bill<'a> {
    name: String,
    created: String,
    packages: Vec<Component<'a>>,
    outputs: Vec<(String, &'a Written)>,
    hosts: BTreeMap<String, String>,
}

/// What is said of a component that the machine that builds had.
const OF_HOST: &str = "of the machine that built the image, and no package; the hash is that of the list of checksums of its files";

/// What of an image a package is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Place {
    /// It is installed in the root.
    Root,
    /// Files of it are in the initramfs.
    Initramfs,
    /// The medium carries it for installations.
    Medium,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Place::Root => "root",
            Place::Initramfs => "initramfs",
            Place::Medium => "medium",
        }
    }
}

/// The element that stands for the initramfs.
const INITRAMFS: &str = "SPDXRef-Initramfs";

struct Component<'a> {
    info: &'a PackageInfo,
    places: BTreeSet<Place>,
    identity: String,
    location: String,
    purl: String,
    needs: BTreeSet<usize>,
}

/// The two documents of an image: SPDX, CycloneDX. `choice` has the packages that are not in the root.
/// `hosts` are platforms of GRUB that this machine's is of, with the hashes of their files.
pub fn documents(
    lock: &Lock,
    root: &Root,
    choice: &Choice,
    outputs: &[Written],
    hosts: &BTreeMap<String, String>,
) -> [String; 2] {
    let mut bill = Bill::new(lock, root, choice, outputs);
    bill.hosts.clone_from(hosts);
    [bill.spdx(), bill.cyclonedx()].map(|document| {
        let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
        text.push('\n');
        text
    })
}

impl<'a> Bill<'a> {
    fn new(lock: &Lock, root: &'a Root, choice: &'a Choice, outputs: &'a [Written]) -> Bill<'a> {
        let release = root.tree.read(b"etc/os-release").unwrap_or_default();
        let release = String::from_utf8_lossy(release);
        let namespace = release
            .lines()
            .find_map(|line| line.strip_prefix("ID="))
            .map_or("unknown", |id| id.trim_matches(['"', '\'']))
            .to_ascii_lowercase();
        let locations: HashMap<&str, &str> = lock
            .repository
            .iter()
            .map(|one| (one.name.as_str(), one.location.as_str()))
            .collect();
        let installed = root.database.packages.iter().map(|one| &one.info).collect();
        let entries = |chosen: &'a [Chosen]| chosen.iter().map(|one| &one.entry).collect::<Vec<_>>();
        let sets: [(Place, Vec<&PackageInfo>, &[LockedPackage]); 3] = [
            (Place::Root, installed, &lock.package),
            (Place::Initramfs, entries(&choice.initramfs), &lock.initramfs),
            (Place::Medium, entries(&choice.offered), &lock.offered),
        ];
        let mut packages: Vec<Component<'a>> = Vec::new();
        let mut known: HashMap<(&str, &str), usize> = HashMap::new();
        for (place, mut infos, locked) in sets {
            infos.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
            let repositories: HashMap<&str, &str> = locked
                .iter()
                .map(|one| (one.name.as_str(), one.repository.as_str()))
                .collect();
            let mut numbers = Vec::new();
            for &info in &infos {
                let number = *known.entry((&info.name, &info.version)).or_insert(packages.len());
                if number == packages.len() {
                    let location = repositories
                        .get(info.name.as_str())
                        .and_then(|name| locations.get(name))
                        .filter(|location| {
                            location.starts_with("https://") || location.starts_with("http://")
                        });
                    packages.push(Component {
                        info,
                        places: BTreeSet::new(),
                        identity: info.hashes.as_ref().map(Identity::to_string).unwrap_or_default(),
                        location: location
                            .map_or_else(|| "NOASSERTION".to_owned(), |location| (*location).to_owned()),
                        purl: purl(&namespace, info),
                        needs: BTreeSet::new(),
                    });
                }
                packages[number].places.insert(place);
                numbers.push(number);
            }
            // Names and what is provided lead to packages of the same place.
            let mut providers: HashMap<&str, usize> = HashMap::new();
            for (info, &number) in infos.iter().zip(&numbers) {
                for provided in &info.provides {
                    providers.entry(&provided.name).or_insert(number);
                }
            }
            for (info, &number) in infos.iter().zip(&numbers) {
                providers.insert(&info.name, number);
            }
            for (info, &number) in infos.iter().zip(&numbers) {
                let wanted = info.depends.iter().filter(|one| !one.op.is_conflict());
                let needed = wanted.filter_map(|one| providers.get(one.name.as_str()).copied());
                packages[number]
                    .needs
                    .extend(needed.filter(|&needed| needed != number));
            }
        }
        let outputs = outputs
            .iter()
            .map(|file| {
                (
                    file.path
                        .file_name()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into_owned(),
                    file,
                )
            })
            .collect();
        Bill {
            name: format!("{}-{}", lock.image, lock.arch),
            created: rfc3339(i64::try_from(lock.epoch).unwrap_or(i64::MAX)),
            packages,
            outputs,
            hosts: BTreeMap::new(),
        }
    }

    /// A hash of all that the documents say.
    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(format!("{TOOL}\0{}\0{}\0", self.name, self.created));
        for one in &self.packages {
            hash.update(format!(
                "{}\0{:?}\0{}\0{:?}\0",
                one.purl, one.info, one.location, one.places
            ));
        }
        for (name, file) in &self.outputs {
            hash.update(format!("{name}\0{}\0", file.sha256));
        }
        for (name, sum) in &self.hosts {
            hash.update(format!("host {name}\0{sum}\0"));
        }
        hash.finalize().into()
    }

    fn spdx(&self) -> Value {
        // Outside of the root a package can be there in several versions.
        let id = |one: &Component<'_>| match one.places.contains(&Place::Root) {
            true => format!("SPDXRef-Package-{}", identifier(&one.info.name)),
            false => format!(
                "SPDXRef-Package-{}",
                identifier(&format!("{}@{}", one.info.name, one.info.version))
            ),
        };
        let mut references: BTreeMap<String, String> = BTreeMap::new();
        let mut packages = vec![json!({
            "SPDXID": "SPDXRef-Image",
            "name": self.name,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "NOASSERTION",
            "copyrightText": "NOASSERTION",
            "primaryPackagePurpose": "OPERATING-SYSTEM",
            "supplier": "NOASSERTION",
        })];
        let mut relationships = vec![relationship("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Image")];
        for (number, (name, file)) in self.outputs.iter().enumerate() {
            let own = format!("SPDXRef-Output-{}", number + 1);
            packages.push(json!({
                "SPDXID": own,
                "name": name,
                "packageFileName": name,
                "downloadLocation": "NOASSERTION",
                "filesAnalyzed": false,
                "licenseConcluded": "NOASSERTION",
                "licenseDeclared": "NOASSERTION",
                "copyrightText": "NOASSERTION",
                "primaryPackagePurpose": "FILE",
                "checksums": [{ "algorithm": "SHA256", "checksumValue": file.sha256 }],
            }));
            relationships.push(relationship(&own, "GENERATED_FROM", "SPDXRef-Image"));
        }
        if self
            .packages
            .iter()
            .any(|one| one.places.contains(&Place::Initramfs))
        {
            packages.push(json!({
                "SPDXID": INITRAMFS,
                "name": format!("{} initramfs", self.name),
                "downloadLocation": "NOASSERTION",
                "filesAnalyzed": false,
                "licenseConcluded": "NOASSERTION",
                "licenseDeclared": "NOASSERTION",
                "copyrightText": "NOASSERTION",
                "primaryPackagePurpose": "ARCHIVE",
                "supplier": "NOASSERTION",
            }));
            relationships.push(relationship("SPDXRef-Image", "CONTAINS", INITRAMFS));
        }
        for (name, sum) in &self.hosts {
            let own = format!("SPDXRef-Host-{}", identifier(&format!("grub-{name}")));
            packages.push(json!({
                "SPDXID": own,
                "name": format!("GRUB for {name}"),
                "downloadLocation": "NOASSERTION",
                "filesAnalyzed": false,
                "licenseConcluded": "NOASSERTION",
                "licenseDeclared": "NOASSERTION",
                "copyrightText": "NOASSERTION",
                "supplier": "NOASSERTION",
                "comment": OF_HOST,
                "checksums": [{ "algorithm": "SHA256", "checksumValue": sum }],
            }));
            relationships.push(relationship("SPDXRef-Image", "CONTAINS", &own));
        }
        for one in &self.packages {
            let info = one.info;
            let own = id(one);
            let person = |who: &str| match who.is_empty() {
                true => "NOASSERTION".to_owned(),
                false => format!("Person: {}", contact(who)),
            };
            let mut package = json!({
                "SPDXID": own,
                "name": info.name,
                "versionInfo": info.version,
                "supplier": person(&info.maintainer),
                "downloadLocation": one.location,
                "filesAnalyzed": false,
                "licenseConcluded": "NOASSERTION",
                "licenseDeclared": license(&info.license, &mut references),
                "copyrightText": "NOASSERTION",
                "externalRefs": [
                    {
                        "referenceCategory": "PACKAGE-MANAGER",
                        "referenceType": "purl",
                        "referenceLocator": one.purl,
                    },
                ],
            });
            // The hash in the index is over the package's metadata, which has those of all its files: no checksum of
            // the file as it is downloaded.
            if !one.identity.is_empty()
                && let Some(list) = package["externalRefs"].as_array_mut()
            {
                list.push(json!({
                    "referenceCategory": "OTHER",
                    "referenceType": "apk-identity",
                    "referenceLocator": one.identity,
                }));
            }
            for (key, value) in [("summary", &info.description), ("homepage", &info.url)] {
                let fits = key != "homepage" || is_address(value);
                if !value.is_empty() && fits {
                    package[key] = value.as_str().into();
                }
            }
            if !info.origin.is_empty() {
                package["sourceInfo"] = format!("built from {}", info.origin).into();
            }
            packages.push(package);
            for place in &one.places {
                relationships.push(match place {
                    Place::Root => relationship("SPDXRef-Image", "CONTAINS", &own),
                    // Some files of it, and nothing that is installed.
                    Place::Initramfs => relationship(INITRAMFS, "GENERATED_FROM", &own),
                    Place::Medium => relationship(&own, "OPTIONAL_COMPONENT_OF", "SPDXRef-Image"),
                });
            }
            for &needed in &one.needs {
                relationships.push(relationship(&own, "DEPENDS_ON", &id(&self.packages[needed])));
            }
        }
        let mut document = json!({
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": self.name,
            "documentNamespace": format!("{HOME}/spdx/{}/{}", self.name, hex(&self.digest())),
            "creationInfo": {
                "created": self.created,
                "creators": [format!("Tool: {TOOL}")],
            },
            "packages": packages,
            "relationships": relationships,
        });
        if !references.is_empty() {
            let texts: Vec<Value> = references
                .into_iter()
                .map(|(id, name)| {
                    json!({
                        "licenseId": id,
                        "name": name,
                        "extractedText": format!("The package names its licence as {name}."),
                    })
                })
                .collect();
            document["hasExtractedLicensingInfos"] = texts.into();
        }
        document
    }

    fn cyclonedx(&self) -> Value {
        let image = format!("image:{}", self.name);
        let of = |place: Place| {
            let inside = self
                .packages
                .iter()
                .filter(move |one| one.places.contains(&place));
            inside.map(|one| one.purl.clone()).collect::<Vec<_>>()
        };
        let mut components = Vec::new();
        let mut needed = of(Place::Root);
        let mut dependencies = Vec::new();
        let initramfs = format!("initramfs:{}", self.name);
        if !of(Place::Initramfs).is_empty() {
            components.push(json!({
                "type": "file",
                "bom-ref": initramfs,
                "name": format!("{} initramfs", self.name),
            }));
            dependencies.push(json!({ "ref": initramfs, "dependsOn": of(Place::Initramfs) }));
            needed.push(initramfs.clone());
        }
        // What the medium carries is needed by nothing of the image.
        dependencies.insert(0, json!({ "ref": image, "dependsOn": needed }));
        for one in &self.packages {
            let info = one.info;
            let mut references = BTreeMap::new();
            let expression = license(&info.license, &mut references);
            let licenses = match (expression.as_str(), references.is_empty()) {
                ("NOASSERTION", _) => json!([]),
                (_, true) => json!([{ "expression": expression }]),
                (_, false) => json!([{ "license": { "name": info.license } }]),
            };
            let mut component = json!({
                "type": "library",
                "bom-ref": one.purl,
                "name": info.name,
                "version": info.version,
                "purl": one.purl,
                "licenses": licenses,
            });
            if !one.places.contains(&Place::Root) {
                component["scope"] = match one.places.contains(&Place::Initramfs) {
                    true => "required".into(),
                    false => "optional".into(),
                };
            }
            for (key, value) in [("description", &info.description)] {
                if !value.is_empty() {
                    component[key] = value.as_str().into();
                }
            }
            if !info.maintainer.is_empty() {
                component["supplier"] = json!({ "name": info.maintainer });
            }
            let mut properties = Vec::new();
            for (name, value) in [
                ("lycia:apk:identity", &one.identity),
                ("lycia:apk:origin", &info.origin),
            ] {
                if !value.is_empty() {
                    properties.push(json!({ "name": name, "value": value }));
                }
            }
            for place in &one.places {
                properties.push(json!({ "name": "lycia:place", "value": place.name() }));
            }
            if !properties.is_empty() {
                component["properties"] = properties.into();
            }
            let mut links = Vec::new();
            if is_address(&info.url) {
                links.push(json!({ "type": "website", "url": info.url }));
            }
            if one.location != "NOASSERTION" {
                links.push(json!({ "type": "distribution", "url": one.location }));
            }
            if !links.is_empty() {
                component["externalReferences"] = links.into();
            }
            components.push(component);
            dependencies.push(json!({
                "ref": one.purl,
                "dependsOn": one.needs.iter().map(|&needed| self.packages[needed].purl.as_str()).collect::<Vec<_>>(),
            }));
        }
        for (name, file) in &self.outputs {
            components.push(json!({
                "type": "file",
                "bom-ref": format!("file:{name}"),
                "name": name,
                "hashes": [{ "alg": "SHA-256", "content": file.sha256 }],
            }));
        }
        for (name, sum) in &self.hosts {
            components.push(json!({
                "type": "application",
                "bom-ref": format!("host:grub-{name}"),
                "name": format!("GRUB for {name}"),
                "description": OF_HOST,
                "hashes": [{ "alg": "SHA-256", "content": sum }],
            }));
        }
        let digest = self.digest();
        // A UUID of version 8: the hash with the bits that a UUID must have.
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&digest[..16]);
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        let text = hex(&uuid);
        json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": format!(
                "urn:uuid:{}-{}-{}-{}-{}",
                &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]
            ),
            "version": 1,
            "metadata": {
                "timestamp": self.created,
                "tools": { "components": [{
                    "type": "application",
                    "name": "lycia",
                    "version": env!("CARGO_PKG_VERSION"),
                }] },
                "component": {
                    "type": "operating-system",
                    "bom-ref": image,
                    "name": self.name,
                },
            },
            "components": components,
            "dependencies": dependencies,
        })
    }
}

fn relationship(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

/// Whether a text is an address of the web as both formats want it: a URI (RFC 3986) with a server and no character that URIs do
/// not have.
fn is_address(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let server = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    let sound =
        |server: &str| server.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[');
    server.is_some_and(sound) && text.bytes().all(allowed)
}

/// `NAME <ADDRESS>` as SPDX writes a person: `NAME (ADDRESS)`.
fn contact(who: &str) -> String {
    match who.split_once('<') {
        Some((name, rest)) => format!("{} ({})", name.trim(), rest.trim_end_matches('>').trim()),
        None => who.trim().to_owned(),
    }
}

/// Letters, digits, `.` and `-`, and other bytes in hexadecimal between dots, so that no two names become one.
fn identifier(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => text.push(char::from(byte)),
            other => text.push_str(&format!(".{other:02x}.")),
        }
    }
    text
}

/// Where others find a package (type `apk`: namespace, name, version, architecture, origin).
fn purl(namespace: &str, info: &PackageInfo) -> String {
    let part = |text: &str| {
        let mut encoded = String::new();
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => {
                    encoded.push(char::from(byte));
                }
                other => encoded.push_str(&format!("%{other:02X}")),
            }
        }
        encoded
    };
    let mut text = format!(
        "pkg:apk/{}/{}@{}",
        part(namespace),
        part(&info.name.to_ascii_lowercase()),
        part(&info.version)
    );
    let mut qualifiers = Vec::new();
    if !info.arch.is_empty() {
        qualifiers.push(format!("arch={}", part(&info.arch)));
    }
    if !info.origin.is_empty() && info.origin != info.name {
        qualifiers.push(format!("origin={}", part(&info.origin)));
    }
    if !qualifiers.is_empty() {
        text.push('?');
        text.push_str(&qualifiers.join("&"));
    }
    text
}

/// A package's licence as an SPDX expression. What is none, as `custom:x`, becomes a reference, which `references` hears of.
fn license(text: &str, references: &mut BTreeMap<String, String>) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut own = BTreeMap::new();
    let spaced = text.replace('(', " ( ").replace(')', " ) ");
    let mut depth = 0i32;
    // Whether a licence must come next, and whether the exception of `WITH` must.
    let (mut wanted, mut exception, mut sound) = (true, false, true);
    for word in spaced.split_whitespace() {
        match word {
            "(" => {
                sound &= wanted && !exception;
                depth += 1;
            }
            ")" => {
                sound &= !wanted;
                depth -= 1;
                sound &= depth >= 0;
            }
            "AND" | "OR" | "WITH" => {
                sound &= !wanted;
                wanted = true;
                exception = word == "WITH";
            }
            _ => {
                sound &= wanted;
                wanted = false;
                if std::mem::take(&mut exception) {
                    sound &= spdx::exception_id(word).is_some();
                } else if !is_listed(word) {
                    let id = license_ref(word);
                    own.insert(id.clone(), word.to_owned());
                    words.push(id);
                    continue;
                }
            }
        }
        words.push(word.to_owned());
    }
    if words.is_empty() {
        return "NOASSERTION".to_owned();
    }
    if !sound || wanted || depth != 0 {
        // No expression: the whole is one licence of the package's own.
        let id = license_ref(text);
        references.insert(id.clone(), text.to_owned());
        return id;
    }
    references.append(&mut own);
    words.join(" ").replace("( ", "(").replace(" )", ")")
}

/// Whether SPDX lists a licence of this name, which may be followed by `+`.
fn is_listed(name: &str) -> bool {
    let rest = spdx::license_id(name).and_then(|found| name.strip_prefix(found.name));
    matches!(rest, Some("" | "+"))
}

/// The name of a licence that SPDX does not list (SPDX 2.3, annex D: letters, digits, `-` and `.`).
fn license_ref(name: &str) -> String {
    let plain = |letter: char| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' => letter,
        _ => '-',
    };
    let name = name.strip_prefix("LicenseRef-").unwrap_or(name);
    format!("LicenseRef-{}", name.chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_addresses() {
        for (text, is) in [
            ("https://h.invalid", true),
            ("http://h.invalid/a?b=c#d", true),
            ("http://[2001:db8::1]/", true),
            ("http", false),
            ("https://", false),
            ("httpd is a server", false),
            ("https:///path", false),
            ("https://h.invalid/a b", false),
            ("https://h.invalid/<a>", false),
            ("https://h.invalid/\u{1b}[2J", false),
        ] {
            assert_eq!(is_address(text), is, "{text}");
        }
    }

    #[test]
    fn licences_are_expressions() {
        for (text, expression, references) in [
            ("MIT", "MIT", 0),
            (
                "GPL-2.0-only AND (MIT OR BSD-3-Clause)",
                "GPL-2.0-only AND (MIT OR BSD-3-Clause)",
                0,
            ),
            (
                "Apache-2.0 WITH LLVM-exception",
                "Apache-2.0 WITH LLVM-exception",
                0,
            ),
            ("MIT AND custom:none", "MIT AND LicenseRef-custom-none", 1),
            ("", "NOASSERTION", 0),
            ("MIT BSD-2-Clause", "LicenseRef-MIT-BSD-2-Clause", 1),
            ("GPL-2.0+", "GPL-2.0+", 0),
            ("Apache-2.0+", "Apache-2.0+", 0),
            // Names that look like those of the list.
            ("Public-Domain", "LicenseRef-Public-Domain", 1),
            ("MIT OR Bsd-3-Clause", "MIT OR LicenseRef-Bsd-3-Clause", 1),
            ("LicenseRef-Own", "LicenseRef-Own", 1),
            (
                "GPL-2.0-only WITH No-Such-exception",
                "LicenseRef-GPL-2.0-only-WITH-No-Such-exception",
                1,
            ),
            ("Zlib AND 0BSD AND blessing", "Zlib AND 0BSD AND blessing", 0),
        ] {
            // What other packages named stays.
            let mut found = BTreeMap::from([("LicenseRef-before".to_owned(), String::new())]);
            assert_eq!(license(text, &mut found), expression);
            assert_eq!(found.len(), 1 + references, "{text}");
        }
    }

    #[test]
    fn package_urls_are_encoded() {
        let info = PackageInfo {
            name: "libstdc++".to_owned(),
            version: "1:2.0_rc1-r0".to_owned(),
            arch: "x86_64".to_owned(),
            origin: "gcc".to_owned(),
            ..PackageInfo::default()
        };
        assert_eq!(
            purl("chimera", &info),
            "pkg:apk/chimera/libstdc%2B%2B@1%3A2.0_rc1-r0?arch=x86_64&origin=gcc"
        );
        assert_eq!(identifier("libstdc++"), "libstdc.2b..2b.");
    }
}
