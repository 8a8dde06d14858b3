//! What a page says of itself: title, section, names and the line that describes it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::escape::rendered;
use super::roff::{Event, Flow, Include, Roff};

/// The name is in the file's name.
pub const NAME_FILE: u8 = 0x10;
/// The name is in the title macro, too.
const NAME_HEAD: u8 = 0x08;
/// The name is the first of those of the NAME section.
const NAME_FIRST: u8 = 0x04;
/// The name is in the NAME section.
const NAME_TITLE: u8 = 0x02;
/// Longest description of a man(7) page before it is rendered, as mandoc has it.
const DESCRIPTION_MAX: usize = 150;
/// Most names of a page.
const NAMES_MAX: usize = 10_000;

/// What a page says.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Page {
    /// It has a title macro that says something; else the file's name is all there is.
    pub titled: bool,
    /// Its section.
    pub section: Vec<u8>,
    /// Its architecture; empty where it is for all.
    pub architecture: Vec<u8>,
    /// Names as they are shown, and where they are.
    pub names: BTreeMap<Vec<u8>, u8>,
    /// The description, as it is shown.
    pub description: Option<Vec<u8>>,
    /// The page that this one only points to.
    pub redirect: Option<Vec<u8>>,
}

/// Reads a page; `include` gives files that it reads in.
pub fn read(text: &[u8], include: Include<'_>) -> Page {
    let reader = RefCell::new(Reader::default());
    let mut roff = Roff::new(include);
    roff.read(text, &mut |roff, event| {
        let mut reader = reader.borrow_mut();
        if reader.form.is_none() && matches!(event, Event::Text(text) if text.is_empty()) {
            return Flow::On;
        }
        match *reader.form.get_or_insert_with(|| form(event, text)) {
            Form::Man => reader.man(roff, event),
            Form::Mdoc => reader.mdoc(roff, event),
        }
    });
    let mut reader = reader.into_inner();
    if reader.form == Some(Form::Man) {
        reader.end_names();
    } else if let Some(parts) = reader.description.take() {
        reader.page.description = joined(&parts).map(|text| rendered(&text));
    }
    reader.page.redirect = roff.redirect;
    reader.page
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Man,
    Mdoc,
}

/// The macro package of a page: that of its first title macro.
fn form(event: Event<'_>, text: &[u8]) -> Form {
    match event {
        Event::Macro(b"Dd", _) => return Form::Mdoc,
        Event::Macro(b"TH", _) => return Form::Man,
        _ => {}
    }
    for line in text.split(|&byte| byte == b'\n') {
        match line {
            [b'.' | b'\'', b'D', b'd', ..] => return Form::Mdoc,
            [b'.' | b'\'', b'T', b'H', ..] => return Form::Man,
            _ => {}
        }
    }
    Form::Man
}

/// Macros of man(7).
const MAN: &[&str] = &[
    "TH", "SH", "SS", "TP", "TQ", "LP", "PP", "P", "IP", "HP", "SM", "SB", "BI", "IB", "BR", "RB", "R", "B",
    "I", "IR", "RI", "RE", "RS", "DT", "UC", "PD", "AT", "in", "SY", "YS", "OP", "EX", "EE", "UR", "UE",
    "MT", "ME",
];

/// Macros of mdoc(7) that may stand within the line of another.
const CALLABLE: &[&str] = &[
    "An", "Ar", "Cd", "Cm", "Dv", "Er", "Ev", "Fa", "Fl", "Fn", "Ft", "Ic", "Li", "Nm", "Op", "Ot", "Pa",
    "St", "Va", "Vt", "Xr", "Ac", "Ao", "Aq", "At", "Bc", "Bo", "Bq", "Bsx", "Bx", "Dc", "Do", "Dq", "Ec",
    "Em", "Eo", "Fx", "Ms", "No", "Ns", "Nx", "Ox", "Pc", "Pf", "Po", "Pq", "Qc", "Ql", "Qo", "Qq", "Sc",
    "So", "Sq", "Sx", "Sy", "Tn", "Ux", "Xc", "Xo", "Fc", "Fo", "Oo", "Oc", "Lk", "Mt", "Brq", "Bro", "Brc",
    "Es", "En", "Dx", "Ap", "Ad", "Lb", "Ta",
];

#[derive(Default)]
struct Reader {
    page: Page,
    form: Option<Form>,
    title: Vec<u8>,
    /// The first name was met.
    first: bool,
    /// The name of the title was met.
    head: bool,
    /// In the NAME section.
    inside: bool,
    /// A heading without words waits for its line.
    heading: bool,
    /// Texts of the NAME section of man(7).
    texts: Vec<Vec<u8>>,
    /// Texts after `.Nd`.
    description: Option<Vec<Vec<u8>>>,
}

impl Reader {
    fn name(&mut self, text: &[u8], mut bits: u8) {
        if text.is_empty() {
            return;
        }
        if bits & NAME_FIRST != 0 {
            if self.first {
                bits &= !NAME_FIRST;
            }
            self.first = true;
        }
        let name = rendered(text);
        if !name.is_empty() && (self.page.names.len() < NAMES_MAX || self.page.names.contains_key(&name)) {
            *self.page.names.entry(name).or_insert(0) |= bits;
        }
    }

    fn title_name(&mut self, text: &[u8]) {
        if !self.head && text.eq_ignore_ascii_case(&self.title) {
            self.name(text, NAME_HEAD);
            self.head = true;
        }
    }

    fn man(&mut self, roff: &mut Roff<'_>, event: Event<'_>) -> Flow {
        let (name, rest) = match event {
            Event::Text(text) => {
                let text = roff.translated(without_blanks(text));
                if self.heading {
                    if text.iter().all(|&byte| byte == b' ') {
                        return Flow::On;
                    }
                    self.heading = false;
                    self.inside = text == b"NAME";
                } else if self.inside {
                    self.texts.push(text);
                }
                return Flow::On;
            }
            Event::Macro(name, rest) => (name, rest),
        };
        match name {
            b"TH" => {
                roff.forget(MAN);
                let mut words = self.words(roff, rest).into_iter();
                self.title = words.next().unwrap_or_default();
                self.page.section = words.next().unwrap_or_default();
                self.page.titled = !(self.title.is_empty() && self.page.section.is_empty());
                return Flow::On;
            }
            b"SH" => {
                if self.inside && self.end_names() == Flow::Stop {
                    return Flow::Stop;
                }
                let words = self.words(roff, rest);
                self.heading = words.is_empty();
                self.inside = matches!(&words[..], [one] if one == b"NAME");
                return Flow::On;
            }
            _ => {}
        }
        // The line of a heading may be a macro, but NAME it is not then.
        self.heading = false;
        if !self.inside {
            return Flow::On;
        }
        match name {
            b"B" | b"I" | b"R" | b"SM" | b"SB" => {
                let words = self.words(roff, rest);
                if !words.is_empty() {
                    self.texts.push(words.join(&b' '));
                }
            }
            b"RE" | b"UE" | b"ME" | b"YS" => {
                let mut rest = rest;
                if name == b"RE" {
                    let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
                    rest = &rest[end..];
                }
                if !rest.is_empty() {
                    let text = roff.translated(rest);
                    self.texts.push(text);
                }
            }
            b"PD" | b"RS" | b"UR" | b"MT" | b"SY" => {
                let words = self.words(roff, rest);
                self.texts.extend(words.into_iter().take(1));
            }
            b"ft" | b"ll" | b"mc" | b"po" | b"rj" | b"sp" | b"ti" | b"ce" => {
                let word = rest.split(|&byte| byte == b' ').next().unwrap_or_default();
                if !word.is_empty() {
                    self.texts.push(word.to_vec());
                }
            }
            b"ta" => {
                let words = rest.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
                self.texts.extend(words.map(<[u8]>::to_vec));
            }
            _ if std::str::from_utf8(name).is_ok_and(|name| MAN.contains(&name)) => {
                let words = self.words(roff, rest);
                self.texts.extend(words);
            }
            _ => {}
        }
        Flow::On
    }

    fn words(&self, roff: &mut Roff<'_>, rest: &[u8]) -> Vec<Vec<u8>> {
        let words = roff.arguments(rest);
        words.into_iter().map(|word| roff.translated(&word)).collect()
    }

    /// Takes names and description out of the NAME section: names with commas between, a dash, the description.
    fn end_names(&mut self) -> Flow {
        let texts = std::mem::take(&mut self.texts);
        self.inside = false;
        let Some(mut text) = joined(&texts) else {
            return Flow::On;
        };
        let mut at = 0;
        let first = |text: &[u8]| text.iter().position(|byte| b" ,".contains(byte));
        while let Some(length) = first(&text[at..]) {
            let name = &text[at..at + length];
            // The list ended with a comma; makewhatis loses the description then.
            if name.starts_with(b"-") || name.starts_with(b"\\-") {
                text.truncate(at + length);
                break;
            }
            self.name(name, NAME_TITLE | NAME_FIRST);
            self.title_name(name);
            at += length + 1;
            if text[at - 1] == b' ' {
                break;
            }
            while text.get(at) == Some(&b' ') {
                at += 1;
            }
        }
        if at == 0 {
            // What a dash cut off, or one word alone.
            let end = first(&text).unwrap_or(text.len());
            self.name(&text[..end], NAME_TITLE | NAME_FIRST);
            self.title_name(&text[..end]);
            return Flow::On;
        }
        let mut rest = text[at..].trim_ascii_start();
        for dash in [b"-".as_slice(), b"\\-\\-", b"\\-", b"\\(en", b"\\(em"] {
            if let Some(after) = rest.strip_prefix(dash) {
                rest = after;
                break;
            }
        }
        while let Some((b' ', after)) = rest.split_first() {
            rest = after;
        }
        let rest = &rest[..rest.len().min(DESCRIPTION_MAX)];
        self.page.description = Some(rendered(rest));
        Flow::Stop
    }

    fn mdoc(&mut self, roff: &mut Roff<'_>, event: Event<'_>) -> Flow {
        let (name, rest) = match event {
            Event::Text(text) => {
                let text = roff.translated(text);
                if let Some(description) = &mut self.description {
                    description.push(text);
                }
                return Flow::On;
            }
            Event::Macro(name, rest) => (name, rest),
        };
        let words = self.words(roff, rest);
        match name {
            b"Dt" => {
                let mut words = words.into_iter();
                let title = words.next().filter(|title| !title.is_empty());
                self.title = title.unwrap_or_else(|| b"UNTITLED".to_vec());
                self.page.section = words.next().unwrap_or_default();
                self.page.architecture = words.next().unwrap_or_default().to_ascii_lowercase();
            }
            b"Dd" => self.page.titled = true,
            b"Os" => {}
            b"Sh" => {
                if self.inside {
                    return Flow::Stop;
                }
                self.inside = words.join(&b' ') == b"NAME";
                if !self.inside {
                    return Flow::Stop;
                }
            }
            b"Nd" if self.inside => {
                self.description.get_or_insert_default().extend(words);
            }
            b"Nm" if self.inside => self.names(&words),
            _ if self.inside => {
                if let Some(description) = &mut self.description {
                    let called = |word: &&Vec<u8>| !is_callable(word);
                    description.extend(words.iter().filter(called).cloned());
                }
            }
            _ => {}
        }
        Flow::On
    }

    /// The words of a `.Nm` line: names, punctuation, and perhaps other macros.
    fn names(&mut self, words: &[Vec<u8>]) {
        let mut naming = true;
        let mut begins = true;
        for word in words {
            if is_callable(word) {
                naming = word == b"Nm";
                begins = true;
                continue;
            }
            if let Some(description) = &mut self.description {
                description.push(word.clone());
            }
            let delimiter = matches!(
                word.as_slice(),
                b"(" | b"[" | b"|" | b"." | b"," | b":" | b";" | b")" | b"]" | b"?" | b"!"
            );
            if !naming || delimiter {
                begins = true;
                continue;
            }
            self.name(word, NAME_TITLE | NAME_FIRST);
            if begins {
                self.title_name(word);
            }
            begins = false;
        }
    }
}

fn is_callable(word: &[u8]) -> bool {
    std::str::from_utf8(word).is_ok_and(|word| CALLABLE.contains(&word))
}

/// A line of text without blanks at its end that no backslash keeps.
fn without_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().rev().take_while(|&&byte| byte == b' ').count();
    let short = &text[..text.len() - blanks];
    match short.last() {
        Some(b'\\') if short.len() < text.len() => &text[..short.len() + 1],
        _ => short,
    }
}

/// Texts in one line. Of the first, what is blank at its end goes; of the others, that stays, as in mandoc.
fn joined(texts: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut out: Option<Vec<u8>> = None;
    for text in texts {
        let mut start = 0;
        while let Some(&byte) = text.get(start) {
            match (byte, text.get(start + 1)) {
                (b'\\', Some(b' ' | b'%' | b'&' | b'0' | b'^' | b'|' | b'~')) => start += 2,
                (b'\t' | b' ', _) => start += 1,
                _ => break,
            }
        }
        let text = &text[start..];
        let short = text.strip_suffix(b"\\").unwrap_or(text).trim_ascii_end();
        if short.is_empty() {
            continue;
        }
        match &mut out {
            None => out = Some(short.to_vec()),
            Some(out) => {
                out.push(b' ');
                out.extend_from_slice(text);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        read(text.as_bytes(), &|_| None)
    }

    fn shown(page: &Page) -> (String, String) {
        let names: Vec<String> = page
            .names
            .iter()
            .map(|(name, bits)| format!("{}:{bits:x}", String::from_utf8_lossy(name)))
            .collect();
        let description = page.description.as_deref().unwrap_or(b"(none)");
        (names.join(" "), String::from_utf8_lossy(description).into_owned())
    }

    #[test]
    fn names_and_descriptions_of_man_pages() {
        for (text, names, description) in [
            (
                ".TH A 1\n.SH NAME\na, b \\- what \\fIit\\fP is\n.SH X\n",
                "a:e b:2",
                "what it is",
            ),
            (".TH A 1\n.SH NAME\n.B a\n\\-\nwhat\nit is\n", "a:e", "what it is"),
            (".TH A 1\n.SH\nNAME\na \\(em what\n", "a:e", "what"),
            (".TH A 1\n.SH NAME\na\n", "a:e", "(none)"),
            (".TH A 1\n.SH \"OTHER\"\nx\n.SH \"NAME\"\na -- b\n", "a:e", "- b"),
            (
                ".de Nn\n.SH NAME\n\\\\$1 \\- \\\\$2\n..\n.TH A 1\n.Nn a \"b \"\"c\"\"\"\n",
                "a:e",
                "b \"c\"",
            ),
            (
                ".ie t .ds x T\n.el .ds x N\n.TH A 1\n.SH NAME\na \\- \\*x\\*[x]\n",
                "a:e",
                "NN",
            ),
            (
                ".if t \\{\\\n.TH B 2\n.\\}\n.TH A 1\n.if !n \\{ no\n no \\}\n.SH NAME\na \\- y\n",
                "a:e",
                "y",
            ),
            (".TH A 1\n.SH NAME\na \\- \\\"comment\nb\\\nc\n", "a:e", "bc"),
            (".tr *!\n.TH A 1\n.SH NAME\na \\- b*\n", "a:e", "b!"),
            (".TH A 1\n.SH NAME\na, \\- b\n", "a:e", ""),
            (
                ".TH A 1\n.TS\n.SH NAME\nx \\- y\n.TE\n.SH NAME\na \\- b\n",
                "a:e",
                "b",
            ),
            ("no title\n.SH NAME\na \\- b\n", "a:6", "b"),
        ] {
            let page = page(text);
            assert_eq!(shown(&page), (names.to_owned(), description.to_owned()), "{text}");
        }
    }

    #[test]
    fn names_and_descriptions_of_mdoc_pages() {
        for (text, names, description) in [
            (
                ".Dd 1\n.Dt A 1 AMD64\n.Os\n.Sh NAME\n.Nm a ,\n.Nm b\n.Nd what it is\n.Sh X\n.Nd no\n",
                "a:e b:2",
                "what it is",
            ),
            (
                ".Dd 1\n.Dt B 3\n.Os\n.Sh NAME\n.Nm a , b Nm c\n.Nd x\nof\n.Ar y\n",
                "a:6 b:a c:2",
                "x of y",
            ),
            (".Dd 1\n.Os\n.Sh NAME\n.Nm a b\n", "a:6 b:2", "(none)"),
        ] {
            let page = page(text);
            assert_eq!(shown(&page), (names.to_owned(), description.to_owned()), "{text}");
            assert!(page.titled);
        }
        let page = page(".Dd 1\n.Dt A 1 AMD64\n.Os\n.Sh NAME\n.Nm a\n");
        assert_eq!(
            (page.section, page.architecture),
            (b"1".to_vec(), b"amd64".to_vec())
        );
    }

    #[test]
    fn pages_that_point_to_others() {
        assert_eq!(
            page(".\\\" c\n.so man1/a.1\n").redirect,
            Some(b"man1/a.1".to_vec())
        );
        assert_eq!(page(".so ../a.1\n").redirect, None);
        let inner = |name: &[u8]| (name == b"man1/x").then(|| b".SH NAME\na \\- b\n".to_vec());
        let page = read(b".TH A 1\n.so man1/x\n.SH Y\n", &inner);
        assert_eq!(shown(&page), ("a:e".to_owned(), "b".to_owned()));
    }

    /// Pages that would not end, or grow without end.
    #[test]
    fn hostile_pages_end() {
        let forever = |_: &[u8]| Some(b".so x\n.so x\n\n".to_vec());
        read(b".so x\n.so x\n\n", &forever);
        for text in [
            ".de X\n.X\n.X\n..\n.X\n".to_owned(),
            ".ds a \\\\*b\\\\*b\n.ds b \\\\*a\\\\*a\n.TH A 1\n.SH NAME\n\\*a\n".to_owned(),
            ".if n \\{".repeat(30_000),
            format!(".TH A 1\n.SH NAME\n{}", "a,".repeat(200_000)),
            "\\".repeat(100_001),
            "\\*[".repeat(10_000),
            ".de\n.de \n.ds\n.nr\n.tr\n.tr \\\n.so\n.TH\n.SH\n.el\n.ie\n.\n.\\}\n".to_owned(),
            format!(".nr x {}1\n\\n(x", "(".repeat(10_000)),
        ] {
            page(&text);
        }
    }
}
