//! Makes kernel modules small enough for tests: ELF64 relocatable files (System V gABI, chapter 4) with the
//! sections that depmod reads.

/// What a generated module has.
#[derive(Clone, Default, Debug)]
pub struct Spec {
    /// Fields of `.modinfo`, as `key=value`.
    pub info: Vec<String>,
    /// Symbols for others, each with its checksum.
    pub exports: Vec<(String, u32)>,
    /// Whether the checksums are there (`__crc_…`), or names alone (`__ksymtab_strings`).
    pub versions: bool,
    /// Symbols that it needs.
    pub imports: Vec<String>,
    /// Symbols that it uses if they are there.
    pub weak: Vec<String>,
}

const UNDEFINED: u16 = 0;
const ABSOLUTE: u16 = 0xfff1;
const GLOBAL: u8 = 1 << 4;
const WEAK: u8 = 2 << 4;

/// The bytes of the module.
pub fn build(spec: &Spec) -> Vec<u8> {
    let mut names = vec![0];
    let mut symbols = vec![0; 24];
    let mut symbol = |name: &str, info: u8, section: u16, value: u64| {
        symbols.extend((names.len() as u32).to_le_bytes());
        symbols.extend([info, 0]);
        symbols.extend(section.to_le_bytes());
        symbols.extend(value.to_le_bytes());
        symbols.extend(0_u64.to_le_bytes());
        names.extend(name.bytes());
        names.push(0);
    };
    if spec.versions {
        for (name, checksum) in &spec.exports {
            symbol(&format!("__crc_{name}"), GLOBAL, ABSOLUTE, u64::from(*checksum));
        }
    }
    for name in &spec.imports {
        symbol(name, GLOBAL, UNDEFINED, 0);
    }
    for name in &spec.weak {
        symbol(name, WEAK, UNDEFINED, 0);
    }
    let text = |lines: Vec<&String>| -> Vec<u8> {
        lines
            .into_iter()
            .flat_map(|line| [line.as_bytes(), b"\0"].concat())
            .collect()
    };
    let info = text(spec.info.iter().collect());
    let exported = text(spec.exports.iter().map(|(name, _)| name).collect());
    let mut versions = Vec::new();
    for name in ["module_layout".to_owned()].iter().chain(&spec.imports) {
        let mut record = 0x1234_u64.to_le_bytes().to_vec();
        record.extend(name.bytes().take(55));
        record.resize(64, 0);
        versions.extend(record);
    }
    // name, type, link, entry size, content
    let sections: [(&str, u32, u32, u64, Vec<u8>); 7] = [
        ("", 0, 0, 0, Vec::new()),
        (".modinfo", 1, 0, 0, info),
        ("__ksymtab_strings", 1, 0, 0, exported),
        ("__versions", 1, 0, 0, versions),
        (".symtab", 2, 5, 24, symbols),
        (".strtab", 3, 0, 0, names),
        (".shstrtab", 3, 0, 0, Vec::new()),
    ];
    let mut titles = Vec::new();
    let mut headers = Vec::new();
    let mut body = vec![0; 64];
    let last = sections.len() - 1;
    let all_titles: Vec<u8> = sections
        .iter()
        .flat_map(|(name, ..)| [name.as_bytes(), b"\0"].concat())
        .collect();
    for (at, (name, kind, link, entry, content)) in sections.into_iter().enumerate() {
        let content = if at == last { all_titles.clone() } else { content };
        body.resize(body.len().next_multiple_of(8), 0);
        headers.extend((titles.len() as u32).to_le_bytes());
        titles.extend(name.bytes());
        titles.push(0);
        headers.extend(kind.to_le_bytes());
        headers.extend([0; 16]);
        headers.extend((body.len() as u64).to_le_bytes());
        headers.extend((content.len() as u64).to_le_bytes());
        headers.extend(link.to_le_bytes());
        headers.extend(u32::from(kind == 2).to_le_bytes());
        headers.extend(8_u64.to_le_bytes());
        headers.extend(entry.to_le_bytes());
        body.extend(content);
    }
    body.resize(body.len().next_multiple_of(8), 0);
    let table = body.len() as u64;
    body.extend(headers);
    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(16, 0);
    // relocatable, x86-64, version 1
    header.extend([1, 0, 62, 0, 1, 0, 0, 0]);
    header.extend([0; 16]);
    header.extend(table.to_le_bytes());
    header.extend([0; 4]);
    for half in [64_u16, 0, 0, 64, 7, last as u16] {
        header.extend(half.to_le_bytes());
    }
    body[..64].copy_from_slice(&header);
    body
}
