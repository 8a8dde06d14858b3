//! The database of manual pages beside that of mandoc's makewhatis, and read by its apropos.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use lycia_root::mandoc;
use lycia_tree::{Follow, Metadata, Node, Timestamp, Tree};
use proptest::prelude::*;

const TIME: Timestamp = Timestamp {
    seconds: 0,
    nanoseconds: 0,
};

enum File {
    Page(Vec<u8>),
    Symlink(&'static str),
    HardLink(&'static str),
}

type Files = BTreeMap<String, File>;

fn program(name: &str) -> Command {
    let found = ["/usr/sbin", "/usr/bin"]
        .map(|folder| Path::new(folder).join(name))
        .into_iter()
        .find(|path| path.exists());
    Command::new(found.unwrap_or_else(|| panic!("{name} is not on this machine: install mandoc (Debian)")))
}

fn packed(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// The folder of a manual on disk.
fn on_disk(files: &Files) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let base = root.path().join("usr/share/man");
    std::fs::create_dir_all(&base).unwrap();
    for (path, file) in files {
        let path = base.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match file {
            File::Page(bytes) => std::fs::write(path, bytes).unwrap(),
            File::Symlink(target) => std::os::unix::fs::symlink(target, path).unwrap(),
            File::HardLink(_) => {}
        }
    }
    for (path, file) in files {
        if let File::HardLink(target) = file {
            std::fs::hard_link(base.join(target), base.join(path)).unwrap();
        }
    }
    (root, base)
}

/// The same in a tree, with the database.
fn in_tree(files: &Files) -> (Tree, Vec<String>) {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    let metadata = Metadata::new(0o644, TIME);
    let full = |path: &str| format!("usr/share/man/{path}").into_bytes();
    for (path, file) in files {
        match file {
            File::Page(bytes) => {
                tree.write(&full(path), metadata.clone(), bytes.clone().into())
                    .unwrap();
            }
            File::Symlink(target) => {
                let folder = Path::new(path).parent().unwrap().to_str().unwrap();
                tree.make_directories(&full(folder), Metadata::new(0o755, TIME))
                    .unwrap();
                let node = Node::Symlink(target.as_bytes().to_vec());
                tree.insert(&full(path), metadata.clone(), node).unwrap();
            }
            File::HardLink(_) => {}
        }
    }
    for (path, file) in files {
        if let File::HardLink(target) = file {
            let id = tree.resolve(&full(target), Follow::Parents).unwrap();
            tree.link(id, &full(path)).unwrap();
        }
    }
    let step = mandoc::run(&mut tree, TIME).unwrap();
    (tree, step.warnings)
}

fn ours(tree: &Tree) -> Option<Vec<u8>> {
    tree.find(b"usr/share/man/mandoc.db", Follow::All).unwrap()?;
    Some(tree.read(b"usr/share/man/mandoc.db").unwrap().to_vec())
}

fn theirs(base: &Path, quick: bool) -> Option<Vec<u8>> {
    let mut command = program("makewhatis");
    if quick {
        command.arg("-Q");
    }
    let output = command.arg("-Tutf8").arg(base).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::read(base.join("mandoc.db")).ok()
}

/// Fails with the first entries that differ.
fn same(files: &Files, quick: bool) {
    let (_root, base) = on_disk(files);
    let (tree, warnings) = in_tree(files);
    assert_eq!(warnings, Vec::<String>::new());
    let (ours, theirs) = (ours(&tree), theirs(&base, quick));
    if ours != theirs {
        let (ours, theirs) = (
            entries(&ours.unwrap_or_default()),
            entries(&theirs.unwrap_or_default()),
        );
        for (our, their) in ours.iter().zip(&theirs) {
            if our != their {
                let page = our
                    .rsplit('\u{1}')
                    .next()
                    .and_then(|rest| rest.split('|').next())
                    .unwrap_or_default();
                let text = match files.get(page) {
                    Some(File::Page(bytes)) if !page.ends_with(".gz") => {
                        String::from_utf8_lossy(bytes).into_owned()
                    }
                    _ => String::new(),
                };
                panic!("ours:   {our}\ntheirs: {their}\n{text}");
            }
        }
        panic!("{} entries, not {}; or other tables", ours.len(), theirs.len());
    }
}

/// The pages of a database in words.
fn entries(bytes: &[u8]) -> Vec<String> {
    let number = |at: usize| {
        bytes
            .get(at..at + 4)
            .map_or(0, |four| u32::from_be_bytes(four.try_into().unwrap()) as usize)
    };
    let list = |mut at: usize, many: bool| {
        let mut found = Vec::new();
        while at != 0 && at < bytes.len() && (bytes[at] != 0 || !many && found.is_empty()) {
            let length = bytes[at..].iter().position(|&byte| byte == 0).unwrap();
            found.push(String::from_utf8_lossy(&bytes[at..at + length]).into_owned());
            at += length + 1;
            if !many {
                break;
            }
        }
        found.join("|")
    };
    (0..number(16))
        .map(|page| {
            let field = |field: usize, many| list(number(20 + page * 20 + field * 4), many);
            format!(
                "{:?} {} [{}] {} {}",
                field(0, true),
                field(1, true),
                field(2, true),
                field(3, false),
                field(4, true)
            )
        })
        .collect()
}

fn page(text: &str) -> File {
    File::Page(text.as_bytes().to_vec())
}

#[test]
fn databases_of_man_pages_have_the_bytes_of_makewhatis() {
    let plain = |name: &str| {
        format!(
            ".TH {} 1\n.SH NAME\n{name} \\- the {name} of it\n.SH SYNOPSIS\nx\n",
            name.to_uppercase()
        )
    };
    let mut files = Files::new();
    for name in ["a", "zz", "Upper", "with.dot", "[", "x-y"] {
        files.insert(format!("man1/{name}.1"), page(&plain(name)));
    }
    let more: Vec<(&str, File)> = vec![
        ("man1/packed.1.gz", File::Page(packed(plain("packed").as_bytes()))),
        ("man1/link.1", File::Symlink("a.1")),
        ("man1/Alink.1.gz", File::Symlink("packed.1.gz")),
        ("man8/far.8", File::Symlink("../man1/zz.1")),
        ("man1/hard.1", File::HardLink("man1/a.1")),
        ("man1/outside.1", File::Symlink("/etc/passwd")),
        ("man1/broken.1", File::Symlink("nothing")),
        ("man1/so-before.1", page(".so man1/zz.1\n")),
        ("man1/so-packed.1", page(".\\\" comment\n.so man1/packed.1\n")),
        ("man1/zzz-so.1.gz", File::Page(packed(b".so man1/a.1\n"))),
        ("man1/so-nothing.1", page(".so man1/none.1\n")),
        ("man1/so-chain.1", page(".so man1/so-before.1\n")),
        (
            "man1/include.1",
            page(".TH INC 1\n.so man1/part.part\n.SH DESCRIPTION\nx\n"),
        ),
        ("man1/part.part", page(".SH NAME\ninc, include \\- of a part\n")),
        ("man1/suffix.3", page(&plain("suffix"))),
        ("man1/none", page(&plain("none"))),
        ("man1/page.html", page("x")),
        (
            "man3/Perl::Mod.3pm",
            page(
                ".TH Perl::Mod 3pm \"2024-01-01\" \"perl v5\"\n.SH NAME\nPerl::Mod \\- \\s-1A\\s0 \"module\"\n",
            ),
        ),
        (
            "man4/arm64/dev.4",
            page(".TH DEV 4\n.SH NAME\ndev \\- a device\n"),
        ),
        ("man4/amd64/dev.4", page(".TH DEV 4\n.SH NAME\ndev \\- another\n")),
        ("man4/amd64/deep/dev.4", page(&plain("deep"))),
        ("man4/amd64/both.4", File::Symlink("../../man1/x-y.1")),
        ("de/man1/a.1", page(&plain("german"))),
        ("README", page("x")),
        ("manx/odd.x", page(".TH ODD x\n.SH NAME\nodd\n")),
    ];
    files.extend(more.into_iter().map(|(path, file)| (path.to_owned(), file)));
    same(&files, false);
}

#[test]
fn forms_of_titles_and_name_sections() {
    let forms = [
        ".TH A 1\n.SH NAME\na, b,c \\- what\n",
        ".TH A 1\n.SH NAME\n.B a\n\\- what it is\n.PP\nand more\n",
        ".TH A 1\n.SH \"NAME\"\n.BR a \" ,\" b\n.br\n\\(em what\n.sp 1\n",
        ".TH A 1\n.SH\nNAME\na \\(en what\n",
        ".TH A 1\n.SH NAME\nonly\n",
        ".TH A 1\n.SH NAME\na, \\- stray\n",
        ".TH A 1\n.SH NAME\na\\-b \\- \\fIx\\fR \\f[B]y\\fP \\*(Tm \\(co \\[u2014] \\e \\&.\n",
        ".TH \"A\" \"1\" \"1 \\\"2\"\n.SH \"NAME\"\n\"a\" \\- \"quoted\"\n",
        ".TH A 1\n.SH NAME\na - b \\\" comment\n.\\\" another\n.SH X\n",
        ".de Sp\n.if t .sp .5v\n.if n .sp\n..\n.ie \\n(.g .ds Aq \\(aq\n.el       .ds Aq '\n.nr rF 0\n.if \\n(.g .if rF .nr rF 1\n.if (\\n(rF:(\\n(.g==0)) \\{\\\n.    if \\nF \\{\\\n.        de IX\n..\n.    \\}\n.\\}\n.TH A 1\n.SH \"NAME\"\na \\- don\\*(Aqt\n.SH \"B\"\n.IX Header \"B\"\n",
        ".tr \\(*W-\n.ds C+ C\\v'-.1v'\\h'-1p'\\s-2+\\h'-1p'+\\s0\\v'.1v'\\h'-1p'\n.ie n \\{\\\n.    ds -- \\(*W-\n.    ds PI pi\n'br\\}\n.el\\{\\\n.    ds -- \\|\\(em\\|\n'br\\}\n.TH A 1\n.SH NAME\na \\- \\*(C+\\*(--x\n",
        ".if !\\nF==2 \\{\\\n.nr % 0\n.\\}\n.TH A 1\n.SH NAME\na \\- x\n.if t no\n.if n yes\n.ie 'a'b' one\n.el two\n",
        ".de Nx\n.B \\\\$1\n\\\\- \\\\$2 \\\\$* \\\\n(.$\n..\n.TH A 1\n.SH NAME\n.Nx a \"b c\"\n",
        ".ig\n.TH B 2\n..\n.ig END\n.TH C 3\n.END\n.TH A 1\n.SH NAME\na \\- \\\nnext\\c\n line\n",
        "'\\\" t\n.TH A 1\n.SH NAME\na  \\-   many   blanks   \n",
        ".TH A 1\n.SH NAME\na \\- caf\u{e9} \u{2014}\n",
        ".TH a 1\n.SH NAME\nb, A \\- in capitals\n",
        ".TH A 1\n.SH NAME\na \\- first\n.SH NAME\nb \\- second\n",
        ".TH A 1\n.SH NAME\n.PP\n.nf\n.B a\n.I b\n.fi\n.RI - x\n",
        ".TH A 1\n.SH NAME\n.TP\n.B a\nwhat\n.TP 5\nb\n.IP c 3\nd\n.SS e\nf\n.RS 4\ng\n.RE\n.UR u\nh\n.UE .\n",
        ".TH A 1\r\n.SH NAME\r\na \\- dos\r\n",
        ".TH A 1\n.SH NAME\na \\- this is a description that does not come to an end, which is why it is cut off after so many bytes that no line of a terminal would show it anyway, is it not\n",
        ".als XX SH\n.TH A 1\n.XX NAME\na \\- b\n",
        ".ds n NAME\n.TH A 1\n.SH \\*n\na \\- \\*[none]b\\*x\n",
        ".TH A 1\n.SH NAME\na\\ b \\- c\\~d\\0e\n",
        ".TH A 1\n.SH NAME\na \\- \\N'34'\\h'1n'x\\u\\d\\z_y\\o'ab'\\s'+1'q\n",
        ".if \\n(zZ=1 .ig zZ\n.if t .de SH\n.TH A 1\n.SH NAME\na \\- b\n",
        ".TH A 1\n.SH NAME EXTRA\nx\n.SH NAME\na \\- b",
    ];
    let mut files = Files::new();
    for (number, form) in forms.iter().enumerate() {
        files.insert(format!("man1/f{number:02}.1"), page(form));
    }
    same(&files, true);
}

#[test]
fn forms_of_mdoc_pages() {
    let forms = [
        ".Dd January 1, 2024\n.Dt A 1\n.Os\n.Sh NAME\n.Nm a\n.Nd what it is\n.Sh SYNOPSIS\n.Nm\n.Fl x\n",
        ".Dd $Mdocdate$\n.Dt A 1 AMD64\n.Os Foo\n.Sh NAME\n.Nm a ,\n.Nm b\n.Nd \"what\" it is , really\n.Sh DESCRIPTION\n",
        ".Dd x\n.Dt B 3\n.Os\n.Sh NAME\n.Nm a , b , c\n.Nd x\nand y\n",
        ".\\\" c\n.Dd x\n.Dt A 9\n.Os\n.Sh NAME\n.Nm \"a b\" c\n.Nd\nlater\n.Dq d\n",
        ".Dd x\n.Dt A 1\n.Os\n.Sh NAME\n.Nm a Ns b\n.Nm c Nm d\n.Nd the \\- \\(em thing\n",
        ".Dd x\n.Dt A 1\n.Os\n.Sh NAME\n.Nm a\n.Nm\n.Sh DESCRIPTION\n",
        ".Dd x\n.Dt a 1\n.Os\n.Sh LIBRARY\n.Sh NAME\n.Nm a\n.Nd b\n",
    ];
    let mut files = Files::new();
    for (number, form) in forms.iter().enumerate() {
        files.insert(format!("man1/f{number:02}.1"), page(form));
    }
    same(&files, true);
}

#[test]
fn apropos_answers_from_it() {
    let mut files = Files::new();
    files.insert(
        "man1/cat.1".into(),
        page(".TH CAT 1\n.SH NAME\ncat, dog \\- two animals\n"),
    );
    files.insert("man1/bird.1".into(), page(".so man1/cat.1\n"));
    files.insert(
        "man5/fish.5.gz".into(),
        File::Page(packed(
            b".Dd x\n.Dt FISH 5\n.Os\n.Sh NAME\n.Nm fish\n.Nd swims \\(em mostly\n",
        )),
    );
    let (_root, base) = on_disk(&files);
    let (tree, _) = in_tree(&files);
    std::fs::write(base.join("mandoc.db"), ours(&tree).unwrap()).unwrap();
    let ask = |words: &[&str]| {
        let output = program("mapropos")
            .arg("-M")
            .arg(&base)
            .args(words)
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(ask(&["animals"]), "cat, bird, dog(1) - two animals\n");
    assert_eq!(ask(&["-s", "5", "."]), "fish(5) - swims \u{2014} mostly\n");
    assert_eq!(ask(&["Nm=bird"]), "cat, bird, dog(1) - two animals\n");
    assert_eq!(ask(&["nothing-of-it"]), "");
}

#[test]
fn damaged_and_large_pages_are_known_by_their_names() {
    let mut files = Files::new();
    files.insert("man1/bad.1.gz".into(), File::Page(b"no gzip".to_vec()));
    files.insert("man1/bomb.1.gz".into(), File::Page(packed(&vec![b'x'; 9 << 20])));
    let (tree, warnings) = in_tree(&files);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("man1/bad.1.gz: it cannot be uncompressed"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].contains("man1/bomb.1.gz: it has more than 8 MiB"),
        "{warnings:?}"
    );
    assert_eq!(entries(&ours(&tree).unwrap()).len(), 2);
    // Without pages there is no database.
    let (tree, _) = in_tree(&Files::from([("man1/x.html".to_owned(), page("x"))]));
    assert_eq!(ours(&tree), None);
}

/// Lines of which pages are made.
fn line() -> impl Strategy<Value = String> {
    let text = "[a-z ,.\\\\-]{0,12}";
    prop_oneof![
        4 => text.prop_map(|text| text.replace('\\', "\\-")),
        1 => Just(".br".to_owned()),
        1 => Just(".PP".to_owned()),
        1 => Just(".\\\" comment".to_owned()),
        2 => ("[BI]|[BIR]{2}|SM", "[a-z]{1,5}", "[a-z,]{1,5}").prop_map(|(font, one, two)| format!(".{font} {one} \"{two} x\"")),
        1 => "[a-z]{1,4}".prop_map(|text| format!("\\fB{text}\\fP\\|\\(em \\*(lq{text}\\*(rq")),
        1 => "[a-z]{1,4}".prop_map(|text| format!(".if n {text}\n.if t .B {text}")),
        1 => "[a-z]{1,4}".prop_map(|text| format!(".ie t \\{{\\\n.B {text}\n.\\}}\n.el \\{{\\\n{text}\n.I {text}\\}}")),
        1 => "[a-z]{1,4}".prop_map(|text| format!(".ds xx {text}\n\\*(xx\\*[xx]")),
        1 => "[a-z]{1,4}".prop_map(|text| format!(".de yy\n\\\\$1{text}\n..\n.yy \"{text} {text}\" b")),
        1 => "[a-z]{1,4}".prop_map(|text| format!(".nr zz 2\n.if \\n(zz>1 {text}\\n+(zz")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Forty pages a case: one call of makewhatis.
    #[test]
    fn generated_pages(pages in prop::collection::vec(
        ("[A-Z]{1,3}", prop::collection::vec(line(), 0..3), prop::collection::vec(line(), 1..6), any::<bool>()), 40..41,
    )) {
        let mut files = Files::new();
        for (number, (title, before, inside, gzip)) in pages.into_iter().enumerate() {
            // What stands before the title only defines.
            let before: String = before.iter().filter(|line| line.starts_with('.')).filter(|line| line.starts_with(".\\\"") ).map(|line| format!("{line}\n")).collect();
            let text = format!("{before}.TH {title} 1\n.SH NAME\n{}\n.SH MORE\nx\n", inside.join("\n"));
            let (name, file) = match gzip {
                true => (format!("man1/p{number:02}.1.gz"), File::Page(packed(text.as_bytes()))),
                false => (format!("man1/p{number:02}.1"), page(&text)),
            };
            files.insert(name, file);
        }
        same(&files, false);
    }
}

/// The pages of this machine, by hand: how many entries are the same.
#[test]
#[ignore = "a measure of this machine's pages"]
fn pages_of_this_machine() {
    let mut files = Files::new();
    let folder = Path::new("/usr/share/man");
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                let below = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                if below.starts_with("man") {
                    files.insert(below, File::Page(bytes));
                }
            }
        }
    }
    let (_root, base) = on_disk(&files);
    let started = std::time::Instant::now();
    let (tree, warnings) = in_tree(&files);
    let ours_took = started.elapsed();
    let (ours, theirs) = (
        entries(&ours(&tree).unwrap()),
        entries(&theirs(&base, true).unwrap()),
    );
    let known: std::collections::BTreeSet<&String> = theirs.iter().collect();
    let different: Vec<&String> = ours.iter().filter(|entry| !known.contains(entry)).collect();
    let mine: std::collections::BTreeSet<&String> = ours.iter().collect();
    for (our, their) in different
        .iter()
        .zip(theirs.iter().filter(|entry| !mine.contains(entry)))
        .take(40)
    {
        println!("ours:   {our}\ntheirs: {their}");
    }
    println!(
        "{} files, {} entries of ours, {} of theirs, {} differ, {} warnings, {ours_took:?} with the tree",
        files.len(),
        ours.len(),
        theirs.len(),
        different.len(),
        warnings.len()
    );
}
