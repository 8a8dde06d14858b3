//! As much of roff(7) as manual pages lay around their names: strings, registers, conditions, macros of
//! their own, files that are read in. Loops run once, tables and equations are passed over.

use std::collections::HashMap;

use super::escape::escape;

/// Most lines that a page may become.
const LINES_MAX: usize = 200_000;
/// Most bytes that expansions and macros of a page may make.
const EXPANDED_MAX: usize = 16 << 20;
/// Longest line after expansions, as mandoc has it.
const LINE_MAX: usize = i16::MAX as usize;
/// Most expansions in a line, as mandoc has it.
const EXPANSIONS_MAX: usize = 1000;
/// Most files and macros within each other.
const DEPTH_MAX: usize = 32;
/// Most strings, macros, registers and open blocks.
const DEFINITIONS_MAX: usize = 10_000;
/// Stands for a backslash that was doubled in an argument.
const DOUBLED: u8 = 27;

/// A line for the macro package.
#[derive(Clone, Copy, Debug)]
pub enum Event<'l> {
    /// Text.
    Text(&'l [u8]),
    /// A macro that is none of roff's, or a request whose arguments count as text.
    Macro(&'l [u8], &'l [u8]),
}

/// Whether to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// Read on.
    On,
    /// Enough was read.
    Stop,
}

/// Reads a file beside the page.
pub type Include<'i> = &'i dyn Fn(&[u8]) -> Option<Vec<u8>>;

enum Scope {
    /// Lines go into a macro, or nowhere.
    Define {
        name: Option<Vec<u8>>,
        end: Option<Vec<u8>>,
    },
    /// Lines of a condition: within braces, or this many more.
    Condition { taken: bool, lines: Option<u8> },
}

enum Expanded {
    Whole,
    /// The next line belongs to it.
    Unfinished,
    Dropped,
}

/// The state of a page.
pub struct Roff<'i> {
    strings: HashMap<Vec<u8>, Vec<u8>>,
    renamed: HashMap<Vec<u8>, Vec<u8>>,
    /// Values, and by how much `\n+` changes them.
    registers: HashMap<Vec<u8>, (i32, i32)>,
    translations: HashMap<Vec<u8>, Vec<u8>>,
    scopes: Vec<Scope>,
    otherwise: Vec<bool>,
    frames: Vec<Vec<Vec<u8>>>,
    escape: Option<u8>,
    control: Option<u8>,
    /// What ends the table or the equation that is passed over.
    passing: Option<&'static [u8]>,
    include: Include<'i>,
    lines: usize,
    expanded: usize,
    depth: usize,
    /// The page that this one only points to.
    pub redirect: Option<Vec<u8>>,
}

impl<'i> Roff<'i> {
    /// A page not begun.
    pub fn new(include: Include<'i>) -> Roff<'i> {
        Roff {
            strings: HashMap::new(),
            renamed: HashMap::new(),
            registers: HashMap::new(),
            translations: HashMap::new(),
            scopes: Vec::new(),
            otherwise: Vec::new(),
            frames: Vec::new(),
            escape: Some(b'\\'),
            control: None,
            passing: None,
            include,
            lines: 0,
            expanded: 0,
            depth: 0,
            redirect: None,
        }
    }

    /// Forgets macros of the page that have the name of one of `names`: the title macro brings its package's.
    pub fn forget(&mut self, names: &[&str]) {
        for name in names {
            self.strings.remove(name.as_bytes());
        }
    }

    /// Reads lines and hands them on.
    pub fn read(&mut self, input: &[u8], sink: &mut dyn FnMut(&mut Roff<'i>, Event<'_>) -> Flow) -> Flow {
        if self.depth >= DEPTH_MAX {
            return Flow::On;
        }
        self.depth += 1;
        let flow = self.lines(input, sink);
        self.depth -= 1;
        flow
    }

    fn lines(&mut self, input: &[u8], sink: &mut dyn FnMut(&mut Roff<'i>, Event<'_>) -> Flow) -> Flow {
        let mut rest = input;
        let mut pending: Vec<u8> = Vec::new();
        while !rest.is_empty() {
            self.lines += 1;
            if self.lines > LINES_MAX || self.expanded > EXPANDED_MAX {
                return Flow::Stop;
            }
            let (raw, after) = match rest.iter().position(|&byte| byte == b'\n') {
                Some(at) => (&rest[..at], &rest[at + 1..]),
                None => (rest, &rest[rest.len()..]),
            };
            rest = after;
            let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
            let mut line = std::mem::take(&mut pending);
            // As makewhatis reads, without an encoding: other bytes have no meaning.
            line.extend(raw.iter().map(|&byte| match byte {
                b'\t' | b' '..=b'~' | DOUBLED if byte != DOUBLED => byte,
                _ => b'?',
            }));
            match self.expand(&mut line, self.escape, rest.is_empty()) {
                Expanded::Whole => {}
                Expanded::Unfinished if line.len() <= LINE_MAX => {
                    pending = line;
                    continue;
                }
                Expanded::Unfinished | Expanded::Dropped => continue,
            }
            match self.line(line, rest, sink) {
                Done::On => {}
                Done::Append(text) => pending = text,
                Done::Stop => return Flow::Stop,
            }
        }
        Flow::On
    }

    fn line(
        &mut self,
        mut line: Vec<u8>,
        after: &[u8],
        sink: &mut dyn FnMut(&mut Roff<'i>, Event<'_>) -> Flow,
    ) -> Done {
        // Each round takes a condition off the line, or an end mark.
        loop {
            let control = self.control_length(&line);
            let mut taken = true;
            match self.scopes.last_mut() {
                Some(Scope::Define { name, end }) => {
                    let Some(at) = control else {
                        let name = name.clone();
                        self.append(name, &line);
                        return Done::On;
                    };
                    let rest = &line[at..];
                    let mark = end.as_deref().unwrap_or(b".");
                    let ends = rest.strip_prefix(mark).is_some_and(|tail| {
                        matches!(tail.first(), None | Some(b' ' | b'\t'))
                            || end.is_none() && matches!(tail.first(), Some(b'\\'))
                    });
                    if !ends {
                        let name = name.clone();
                        self.append(name, &line);
                        return Done::On;
                    }
                    let again = end.is_some();
                    self.scopes.pop();
                    self.end_lines();
                    if !again || !is_request(&line[at..at + name_length(&line[at..])]) {
                        return Done::On;
                    }
                    continue;
                }
                Some(Scope::Condition { taken: rule, .. }) => {
                    taken = *rule;
                    self.end_lines();
                    let whole = line.get(control.unwrap_or(0)..) == Some(b"\\}");
                    self.close_braces(&mut line, control, taken);
                    if whole && line.len() <= control.unwrap_or(0) {
                        return Done::On;
                    }
                }
                None => {}
            }
            let Some(at) = self.control_length(&line) else {
                if !taken || self.passing.is_some() {
                    return Done::On;
                }
                return self.done(sink, Event::Text(&breakable(&line)));
            };
            if line.get(at).is_none_or(|&byte| byte == b'"') {
                return Done::On;
            }
            let length = name_length(&line[at..]);
            let name = line[at..at + length].to_vec();
            let mut from = at + length;
            while matches!(line.get(from), Some(b' '))
                || from == at + length && line.get(from) == Some(&b'\t')
            {
                from += 1;
            }
            if let Some(end) = self.passing {
                if taken && name == end {
                    self.passing = None;
                }
                return Done::On;
            }
            let user = self.strings.contains_key(&name);
            if !user && matches!(name.as_slice(), b"if" | b"ie" | b"el" | b"while") {
                if self.scopes.len() >= DEFINITIONS_MAX {
                    return Done::Stop;
                }
                let start = self.condition(&name, &line, from);
                line.drain(..start);
                if line.is_empty() {
                    return Done::On;
                }
                continue;
            }
            if !taken || name == b"." {
                return Done::On;
            }
            let rest = line[from..].to_vec();
            if !user
                && matches!(
                    name.as_slice(),
                    b"de" | b"de1" | b"am" | b"am1" | b"ig" | b"dei" | b"ami"
                )
            {
                self.define(&name, &rest);
                return Done::On;
            }
            if let Some(body) = self.strings.get(&name).cloned() {
                return self.call(&body, &rest, sink);
            }
            let name = self.renamed.get(&name).cloned().unwrap_or(name);
            return self.request(&name, &rest, after, sink);
        }
    }

    fn done(&mut self, sink: &mut dyn FnMut(&mut Roff<'i>, Event<'_>) -> Flow, event: Event<'_>) -> Done {
        match sink(self, event) {
            Flow::On => Done::On,
            Flow::Stop => Done::Stop,
        }
    }

    /// Calls a macro of the page.
    fn call(
        &mut self,
        body: &[u8],
        arguments: &[u8],
        sink: &mut dyn FnMut(&mut Roff<'i>, Event<'_>) -> Flow,
    ) -> Done {
        if body.is_empty() {
            return Done::On;
        }
        self.expanded += body.len();
        if body.last() != Some(&b'\n') {
            return Done::Append(body.to_vec());
        }
        let quoted = |argument: Vec<u8>| {
            let mut out = Vec::new();
            for byte in argument {
                match byte {
                    b'"' => out.extend_from_slice(b"\\(dq"),
                    _ => out.push(byte),
                }
            }
            out
        };
        let frame = self.arguments(arguments).into_iter().map(quoted).collect();
        self.frames.push(frame);
        let flow = self.read(body, sink);
        self.frames.pop();
        match flow {
            Flow::On => Done::On,
            Flow::Stop => Done::Stop,
        }
    }

    fn request(
        &mut self,
        name: &[u8],
        rest: &[u8],
        after: &[u8],
        sink: &mut dyn FnMut(&mut Roff<'i>, Event<'_>) -> Flow,
    ) -> Done {
        let words: Vec<&[u8]> = rest
            .split(|&byte| byte == b' ')
            .filter(|word| !word.is_empty())
            .collect();
        match name {
            b"ds" | b"ds1" | b"as" | b"as1" => self.define_string(rest, name[0] == b'a'),
            b"nr" => self.set_register(rest),
            b"rr" => {
                words.first().and_then(|word| self.registers.remove(*word));
            }
            b"rm" => {
                for word in words {
                    self.strings.remove(word);
                    self.renamed.remove(word);
                }
            }
            b"rn" | b"als" => {
                if let [first, second] = words[..] {
                    let (from, to) = if name == b"rn" {
                        (first, second)
                    } else {
                        (second, first)
                    };
                    let body = self.strings.get(from).cloned();
                    if name == b"rn" {
                        self.strings.remove(from);
                    }
                    match body {
                        Some(body) => self.set_string(to, body),
                        None if self.renamed.len() < DEFINITIONS_MAX => {
                            self.renamed.insert(to.to_vec(), from.to_vec());
                        }
                        None => {}
                    }
                }
            }
            b"tr" => self.translate(rest),
            b"cc" => self.control = rest.first().copied().filter(|&byte| byte != b'.'),
            b"ec" => self.escape = Some(rest.first().copied().unwrap_or(b'\\')),
            b"eo" => self.escape = None,
            b"nop" => return self.done(sink, Event::Text(&breakable(rest))),
            b"TS" => self.passing = Some(b"TE"),
            b"EQ" => self.passing = Some(b"EN"),
            b"so" => {
                // Never out of the folder of the manual.
                let leaves = rest.first() == Some(&b'/')
                    || [b"../", b"/.."]
                        .iter()
                        .any(|part| rest.windows(3).any(|window| window == *part));
                if leaves {
                    return Done::On;
                }
                if after.is_empty() {
                    self.redirect = Some(rest.to_vec());
                    return Done::Stop;
                }
                let Some(found) = (self.include)(rest) else {
                    return Done::On;
                };
                self.expanded += found.len();
                if self.read(&found, sink) == Flow::Stop {
                    return Done::Stop;
                }
            }
            // What is no text, and what no macro package has.
            _ if is_request(name) => {}
            _ => return self.done(sink, Event::Macro(name, rest)),
        }
        Done::On
    }

    /// How long the mark of a control line is, with blanks after it.
    fn control_length(&self, line: &[u8]) -> Option<usize> {
        let marked = match self.control {
            Some(control) => line.first() == Some(&control),
            None => matches!(line.first(), Some(b'.' | b'\'')),
        };
        let start = match marked {
            true => 1,
            false if self.control.is_none() && line.starts_with(b"\\.") => 2,
            false => return None,
        };
        let blanks = line[start..]
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t'));
        Some(start + blanks.count())
    }

    fn append(&mut self, name: Option<Vec<u8>>, line: &[u8]) {
        let Some(name) = name else { return };
        self.expanded += line.len() + 1;
        if self.expanded <= EXPANDED_MAX
            && let Some(body) = self.strings.get_mut(&name)
        {
            copy(body, line);
            body.push(b'\n');
        }
    }

    fn set_string(&mut self, name: &[u8], body: Vec<u8>) {
        self.expanded += body.len();
        if self.strings.len() < DEFINITIONS_MAX || self.strings.contains_key(name) {
            self.renamed.remove(name);
            self.strings.insert(name.to_vec(), body);
        }
    }

    fn define(&mut self, request: &[u8], rest: &[u8]) {
        let mut words = rest.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
        let indirect = request.contains(&b'i') && request != b"ig";
        let name = match request {
            b"ig" => None,
            _ => match words.next() {
                Some(name) if indirect => match self.strings.get(name) {
                    Some(name) => Some(name.clone()),
                    None => return,
                },
                Some(name) => Some(name[..name_length(name)].to_vec()),
                None => return,
            },
        };
        let end = words.next().map(<[u8]>::to_vec);
        if let Some(name) = &name {
            let old = match request.starts_with(b"am") {
                true => self.strings.get(name).cloned().unwrap_or_default(),
                false => Vec::new(),
            };
            self.set_string(name, old);
        }
        if self.scopes.len() < DEFINITIONS_MAX {
            self.scopes.push(Scope::Define { name, end });
        }
    }

    fn define_string(&mut self, rest: &[u8], add: bool) {
        let length = name_length(rest);
        if length == 0 || rest.get(length) == Some(&b'\\') {
            return;
        }
        let name = rest[..length].to_vec();
        let mut value = &rest[length..];
        while let Some((b' ', tail)) = value.split_first() {
            value = tail;
        }
        let value = value.strip_prefix(b"\"").unwrap_or(value);
        let mut body = match add {
            true => self.strings.get(&name).cloned().unwrap_or_default(),
            false => Vec::new(),
        };
        copy(&mut body, value);
        self.set_string(&name, body);
    }

    fn translate(&mut self, rest: &[u8]) {
        let mut at = 0;
        let mut next = || {
            let first = *rest.get(at)?;
            let length = match first {
                b'\\' => 1 + escape(&rest[at + 1..]).1,
                _ => 1,
            };
            let found = rest.get(at..at + length).unwrap_or_default().to_vec();
            at += length;
            Some(found)
        };
        while let Some(from) = next() {
            let to = next().unwrap_or_else(|| b" ".to_vec());
            if self.translations.len() >= DEFINITIONS_MAX {
                return;
            }
            self.translations.insert(from, to);
        }
    }

    /// Text as `.tr` has it shown.
    pub fn translated(&self, text: &[u8]) -> Vec<u8> {
        if self.translations.is_empty() {
            return text.to_vec();
        }
        let mut out = Vec::with_capacity(text.len());
        let mut at = 0;
        while at < text.len() {
            let length = match text[at] {
                b'\\' => 1 + escape(&text[at + 1..]).1,
                _ => 1,
            };
            let part = &text[at..(at + length).min(text.len())];
            out.extend_from_slice(self.translations.get(part).map_or(part, Vec::as_slice));
            at += length;
        }
        out
    }

    /// The arguments of a macro.
    pub fn arguments(&mut self, mut rest: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        while !rest.is_empty() {
            let (argument, doubled, length) = argument(rest);
            rest = &rest[length..];
            let mut argument = argument;
            if doubled {
                self.expand(&mut argument, Some(DOUBLED), true);
            }
            found.push(argument);
        }
        found
    }

    /// Ends conditions that hold for a line.
    fn end_lines(&mut self) {
        while let Some(Scope::Condition {
            lines: Some(lines), ..
        }) = self.scopes.last_mut()
        {
            *lines -= 1;
            if *lines > 0 {
                break;
            }
            self.scopes.pop();
        }
    }

    /// Takes `\}` out of a line, each of which ends what the last `\{` began.
    fn close_braces(&mut self, line: &mut Vec<u8>, control: Option<usize>, taken: bool) {
        let mut at = control.unwrap_or(0);
        let mut show = taken;
        if line.get(at..) == Some(b"\\}")
            || control.is_none() && line.get(at..at + 2) == Some(b"\\}") && line.len() == 2
        {
            show = false;
        }
        while at < line.len() {
            if line[at] != b'\\' {
                at += 1;
                continue;
            }
            if line.get(at + 1) != Some(&b'}') {
                at += 2;
                continue;
            }
            if at + 2 == line.len() {
                line.truncate(at);
            } else if show {
                line[at + 1] = b'&';
            } else {
                line.drain(at..at + 2);
            }
            while let Some(Scope::Condition { lines, .. }) = self.scopes.last() {
                let brace = lines.is_none();
                self.scopes.pop();
                if brace {
                    break;
                }
            }
            self.end_lines();
        }
    }

    /// Begins a condition and gives where the rest of its line begins.
    fn condition(&mut self, request: &[u8], line: &[u8], from: usize) -> usize {
        let mut at = from;
        let mut taken = match request {
            b"el" => self.otherwise.pop().unwrap_or(false),
            _ => self.holds(line, &mut at),
        };
        if request == b"ie" && self.otherwise.len() < DEFINITIONS_MAX {
            self.otherwise.push(!taken);
        }
        if let Some(Scope::Condition { taken: false, .. }) = self.scopes.last() {
            taken = false;
        }
        at = at.min(line.len());
        let lines = if at == line.len() && request != b"while" {
            Some(2)
        } else {
            while line.get(at) == Some(&b' ') {
                at += 1;
            }
            match line.get(at..at + 2) {
                Some(b"\\{") => {
                    at += 2;
                    while line.get(at) == Some(&b' ') {
                        at += 1;
                    }
                    None
                }
                _ => Some(1),
            }
        };
        self.scopes.push(Scope::Condition { taken, lines });
        if at == line.len() {
            // Nothing is left of the line: the empty rest counts as one.
            self.end_lines();
        }
        at
    }

    fn holds(&mut self, line: &[u8], at: &mut usize) -> bool {
        let wanted = line.get(*at) != Some(&b'!');
        *at += usize::from(!wanted);
        match line.get(*at) {
            None => false,
            Some(b'n' | b'o') => {
                *at += 1;
                wanted
            }
            Some(b'e' | b't' | b'v') => {
                *at += 1;
                !wanted
            }
            Some(b'c') => {
                *at += 1;
                while line.get(*at) == Some(&b' ') {
                    *at += 1;
                }
                let there = match line.get(*at) {
                    Some(b'\\') => {
                        let (found, length) = escape(&line[*at + 1..]);
                        *at += length;
                        !matches!(found, super::escape::Escape::Wrong)
                    }
                    _ => true,
                };
                *at += 1;
                there == wanted
            }
            Some(&kind @ (b'd' | b'r')) => {
                *at += 1;
                while line.get(*at) == Some(&b' ') {
                    *at += 1;
                }
                let length = name_length(&line[(*at).min(line.len())..]);
                let name = &line[*at..*at + length];
                *at += length;
                let there = match kind {
                    b'r' => self.registers.contains_key(name) || fixed(name).is_some(),
                    _ => self.strings.contains_key(name) || is_request(name),
                };
                (there && length > 0) == wanted
            }
            Some(_) => {
                let before = *at;
                match super::number::expression(&line[before..], true) {
                    Some((value, length)) => {
                        *at += length;
                        (value > 0) == wanted
                    }
                    None => same_strings(line, at) == wanted,
                }
            }
        }
    }

    fn register(&mut self, name: &[u8], sign: Option<u8>) -> i32 {
        if let Some(value) = fixed(name) {
            return value;
        }
        if name == b".$" {
            return self
                .frames
                .last()
                .map_or(0, |frame| i32::try_from(frame.len()).unwrap_or(0));
        }
        let Some((value, step)) = self.registers.get_mut(name) else {
            return 0;
        };
        match sign {
            Some(b'+') => *value = value.saturating_add(*step),
            Some(b'-') => *value = value.saturating_sub(*step),
            _ => {}
        }
        *value
    }

    fn set_register(&mut self, rest: &[u8]) {
        let length = name_length(rest);
        let name = &rest[..length];
        let mut value = &rest[length..];
        while let Some((b' ', tail)) = value.split_first() {
            value = tail;
        }
        let sign = value.first().copied().filter(|byte| b"+-".contains(byte));
        if sign.is_some() {
            value = &value[1..];
        }
        let Some((number, used)) = super::number::expression(value, true) else {
            return;
        };
        if length == 0 || self.registers.len() >= DEFINITIONS_MAX && !self.registers.contains_key(name) {
            return;
        }
        let step = super::number::expression(value[used..].trim_ascii_start(), true);
        let (old, old_step) = self.registers.entry(name.to_vec()).or_insert((0, 0));
        *old = match sign {
            Some(b'+') => old.saturating_add(number),
            Some(_) => old.saturating_sub(number),
            None => number,
        };
        if let Some((step, _)) = step {
            *old_step = step;
        }
    }

    /// Takes comments off a line and puts strings, registers and arguments in, from its end on, so that
    /// names may be made of others.
    fn expand(&mut self, line: &mut Vec<u8>, mark: Option<u8>, last: bool) -> Expanded {
        let Some(mark) = mark else {
            return Expanded::Whole;
        };
        let mut at = 0;
        while at + 1 < line.len() {
            if line[at] != mark {
                at += 1;
                continue;
            }
            match line[at + 1] {
                b'#' => {
                    line.truncate(at);
                    return Expanded::Unfinished;
                }
                b'"' => {
                    let mut end = at;
                    while end > 0 && line[end - 1] == b' ' && (end == 1 || line[end - 2] != b'\\') {
                        end -= 1;
                    }
                    line.truncate(end);
                    break;
                }
                _ => at += 2,
            }
        }
        let mut expansions = 0;
        let mut end = line.len();
        while end > 0 {
            let here = end - 1;
            if line[here] != mark {
                if mark != DOUBLED && line[here] == b'\\' {
                    // Another escape character: the backslash is a character.
                    line.insert(here + 1, b'e');
                }
                end = here;
                continue;
            }
            let own = self.escape.unwrap_or(b'\\');
            let run = line[..here].iter().rev().take_while(|&&byte| byte == own).count();
            if run % 2 == 1 {
                for byte in &mut line[here - run..=here] {
                    *byte = b'\\';
                }
                end = here - run;
                continue;
            }
            if here + 1 == line.len() {
                line.truncate(here);
                if last {
                    end = here;
                    continue;
                }
                return Expanded::Unfinished;
            }
            line[here] = b'\\';
            end = here;
            let Some((value, length)) = self.value(&line[here + 1..]) else {
                continue;
            };
            expansions += 1;
            self.expanded += value.len();
            if expansions > EXPANSIONS_MAX
                || line.len() + value.len() > LINE_MAX
                || self.expanded > EXPANDED_MAX
            {
                return Expanded::Dropped;
            }
            end = here + value.len();
            line.splice(here..here + 1 + length, value);
            // Arguments are read as they were given.
            if line.len() < end {
                end = line.len();
            }
        }
        Expanded::Whole
    }

    /// What an escape that stands for text stands for, and its length without the backslash.
    fn value(&mut self, text: &[u8]) -> Option<(Vec<u8>, usize)> {
        let skipped = usize::from(text.first() == Some(&b'E'));
        let kind = *text.get(skipped)?;
        let mut at = skipped + 1;
        let mut sign = None;
        let enclosed = match kind {
            b'*' | b'$' => None,
            b'n' => {
                sign = text.get(at).copied().filter(|byte| b"+-".contains(byte));
                at += usize::from(sign.is_some());
                None
            }
            b'B' | b'w' => {
                let end = *text.get(at)?;
                at += 1;
                Some(end)
            }
            _ => return None,
        };
        let (end, count) = match (enclosed, text.get(at)) {
            (Some(end), _) => (Some(end), 0),
            (None, Some(b'(')) => {
                at += 1;
                (None, 2)
            }
            (None, Some(b'[')) => {
                at += 1;
                (Some(b']'), 0)
            }
            (None, _) => (None, 1),
        };
        let rest = text.get(at..).unwrap_or_default();
        let (name, length, whole) = match end {
            None => match rest.get(..count) {
                Some(name) => (name, count, true),
                None => (rest, rest.len(), false),
            },
            Some(end) => match rest.iter().position(|&byte| byte == end) {
                Some(length) => (&rest[..length], length + 1, true),
                None => (rest, rest.len(), false),
            },
        };
        let name = name.to_vec();
        let length = at + length;
        let value = match kind {
            b'*' if !whole => Vec::new(),
            b'*' => match self.strings.get(&name) {
                Some(value) => value.clone(),
                None => predefined(&name)?,
            },
            b'$' => {
                let frame = self.frames.last();
                match text.get(skipped + 1)? {
                    digit @ b'1'..=b'9' => {
                        let value = frame.and_then(|frame| frame.get(usize::from(digit - b'1')));
                        value.cloned().unwrap_or_default()
                    }
                    all @ (b'*' | b'@') => {
                        let quote: &[u8] = if *all == b'@' { b"\"" } else { b"" };
                        let quoted = |one: &Vec<u8>| [quote, one, quote].concat();
                        let parts: Vec<Vec<u8>> = frame.into_iter().flatten().map(quoted).collect();
                        parts.join(&b' ')
                    }
                    _ => Vec::new(),
                }
            }
            b'n' if whole => self.register(&name, sign).to_string().into_bytes(),
            b'n' => Vec::new(),
            b'B' => {
                let numeric =
                    super::number::expression(&name, true).is_some_and(|(_, used)| used == name.len());
                vec![if whole && numeric { b'1' } else { b'0' }]
            }
            _ => (24 * width(&name)).to_string().into_bytes(),
        };
        Some((value, length))
    }
}

enum Done {
    On,
    /// The start of the next line.
    Append(Vec<u8>),
    Stop,
}

/// Text in which hyphens between letters may break, for which they are other characters: where
/// makewhatis compares a name with the title, they differ.
fn breakable(text: &[u8]) -> Vec<u8> {
    let mut out = text.to_vec();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if byte == b'\\' {
            let (found, length) = escape(&text[at + 1..]);
            if found == super::escape::Escape::Wrong {
                break;
            }
            at += 1 + length;
            at += text[at..].iter().take_while(|&&byte| byte == b'-').count();
            continue;
        }
        let letter = |at: usize| text.get(at).is_some_and(u8::is_ascii_alphabetic);
        if byte == b'-' && at > 0 && letter(at - 1) && letter(at + 1) {
            out[at] = super::escape::HYPHEN;
        }
        at += 1;
    }
    out
}

/// Characters of a text, as `\w` counts them.
fn width(text: &[u8]) -> usize {
    let (mut at, mut count) = (0, 0);
    while at < text.len() {
        match text[at] {
            b'\\' => {
                let (found, length) = escape(&text[at + 1..]);
                at += 1 + length;
                count += usize::from(matches!(found, super::escape::Escape::Special(_)));
            }
            _ => {
                at += 1;
                count += 1;
            }
        }
    }
    count
}

/// Strings that mandoc has before a page says anything.
fn predefined(name: &[u8]) -> Option<Vec<u8>> {
    let text: &[u8] = match name {
        b"Am" => b"&",
        b"left-parenthesis" | b"lp" => b"(",
        b"Tm" => b"(Tm)",
        b"right-parenthesis" | b"rp" => b")",
        b"Lt" => b"<",
        b"Gt" => b">",
        b"Ai" => b"ANSI",
        b"Na" => b"NaN",
        b"Px" => b"POSIX",
        b"left-bracket" => b"[",
        b"Ne" => b"\\(!=",
        b"Pm" => b"\\(+-",
        b"Le" | b"<=" => b"\\(<=",
        b"Ge" | b">=" => b"\\(>=",
        b"aa" => b"\\(aa",
        b"quote-right" | b"right-singlequote" => b"\\(cq",
        b"q" => b"\\(dq",
        b"ga" => b"\\(ga",
        b"Lq" | b"lq" => b"\\(lq",
        b"left-singlequote" | b"quote-left" => b"\\(oq",
        b"R" => b"\\(rg",
        b"Rq" | b"rq" => b"\\(rq",
        b"ua" => b"\\(ua",
        b"va" => b"\\(va",
        b"\'" => b"\\\'",
        b"`" => b"\\`",
        b"Ba" => b"\\fR|\\fP",
        b"right-bracket" => b"]",
        b"If" => b"infinity",
        b"Pi" => b"pi",
        // What the formatter would be asked for stays.
        b".T" => return None,
        _ => b"",
    };
    Some(text.to_vec())
}

/// Registers that cannot be set.
fn fixed(name: &[u8]) -> Option<i32> {
    match name {
        b".A" | b".T" | b".j" => Some(0),
        b".g" => Some(1),
        b".H" => Some(24),
        b".V" => Some(40),
        _ => None,
    }
}

/// Up to a blank or an escape.
fn name_length(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b' ' | b'\t' => break,
            b'\\' if text.get(at + 1) == Some(&b'\\') => at += 1,
            b'\\' => break,
            _ => {}
        }
        at += 1;
    }
    at.min(text.len())
}

/// Copies text into a definition: two backslashes become one.
fn copy(into: &mut Vec<u8>, text: &[u8]) {
    let mut at = 0;
    while at < text.len() {
        at += usize::from(text[at] == b'\\' && text.get(at + 1) == Some(&b'\\'));
        into.push(text[at]);
        at += 1;
    }
}

/// The first argument, whether it has backslashes that were doubled, and its length with blanks after it.
fn argument(text: &[u8]) -> (Vec<u8>, bool, usize) {
    let quoted = text.first() == Some(&b'"');
    let mut at = usize::from(quoted);
    let mut found = Vec::new();
    let mut doubled = false;
    while let Some(&byte) = text.get(at) {
        match (byte, text.get(at + 1)) {
            (b'\\', Some(b'a' | b't')) => {
                found.push(b'\t');
                at += 1;
            }
            (b'\\', Some(b'\\')) => {
                found.push(DOUBLED);
                doubled = true;
                at += 1;
            }
            (b'\\', Some(b' ')) if !quoted => {
                found.extend_from_slice(b"\\ ");
                at += 1;
            }
            (b' ', _) if !quoted => break,
            (b'"', Some(b'"')) if quoted => {
                found.push(b'"');
                at += 1;
            }
            (b'"', _) if quoted => break,
            _ => found.push(byte),
        }
        at += 1;
    }
    at = (at + 1).min(text.len());
    while text.get(at) == Some(&b' ') {
        at += 1;
    }
    (found, doubled, at)
}

/// `'one'other'`.
fn same_strings(line: &[u8], at: &mut usize) -> bool {
    let rest = line.get(*at..).unwrap_or_default();
    let Some((&mark, rest)) = rest.split_first() else {
        return false;
    };
    let mut parts = rest.splitn(3, |&byte| byte == mark);
    let (first, second, after) = (parts.next(), parts.next(), parts.next());
    *at = line.len() - after.map_or(0, <[u8]>::len);
    after.is_some() && first == second
}

/// Requests that this reader or the page's form knows and that give no text.
fn is_request(name: &[u8]) -> bool {
    const REQUESTS: &[&str] = &[
        "ad",
        "af",
        "aln",
        "als",
        "am",
        "am1",
        "ami",
        "ami1",
        "as",
        "as1",
        "asciify",
        "backtrace",
        "bd",
        "bleedat",
        "blm",
        "box",
        "boxa",
        "bp",
        "BP",
        "br",
        "break",
        "breakchar",
        "brnl",
        "brp",
        "brpnl",
        "c2",
        "cc",
        "cf",
        "cflags",
        "ch",
        "char",
        "chop",
        "class",
        "close",
        "CL",
        "color",
        "composite",
        "continue",
        "cp",
        "cropat",
        "cs",
        "cu",
        "da",
        "dch",
        "de",
        "de1",
        "defcolor",
        "dei",
        "dei1",
        "device",
        "devicem",
        "di",
        "do",
        "ds",
        "ds1",
        "dwh",
        "dt",
        "ec",
        "ecr",
        "ecs",
        "el",
        "em",
        "EN",
        "eo",
        "EP",
        "EQ",
        "errprint",
        "ev",
        "evc",
        "ex",
        "fallback",
        "fam",
        "fc",
        "fchar",
        "fcolor",
        "fdeferlig",
        "feature",
        "fi",
        "fkern",
        "fl",
        "flig",
        "fp",
        "fps",
        "fschar",
        "fspacewidth",
        "fspecial",
        "ftr",
        "fzoom",
        "gcolor",
        "hc",
        "hcode",
        "hidechar",
        "hla",
        "hlm",
        "hpf",
        "hpfa",
        "hpfcode",
        "hw",
        "hy",
        "hylang",
        "hylen",
        "hym",
        "hypp",
        "hys",
        "ie",
        "if",
        "ig",
        "index",
        "it",
        "itc",
        "IX",
        "kern",
        "kernafter",
        "kernbefore",
        "kernpair",
        "lc",
        "lc_ctype",
        "lds",
        "length",
        "letadj",
        "lf",
        "lg",
        "lhang",
        "linetabs",
        "lnr",
        "lnrf",
        "lpfx",
        "ls",
        "lsm",
        "lt",
        "mediasize",
        "minss",
        "mk",
        "mso",
        "na",
        "ne",
        "nf",
        "nh",
        "nhychar",
        "nm",
        "nn",
        "nop",
        "nr",
        "nrf",
        "nroff",
        "ns",
        "nx",
        "open",
        "opena",
        "os",
        "output",
        "padj",
        "papersize",
        "pc",
        "pev",
        "pi",
        "PI",
        "pl",
        "pm",
        "pn",
        "pnr",
        "ps",
        "psbb",
        "pshape",
        "pso",
        "ptr",
        "pvs",
        "rchar",
        "rd",
        "recursionlimit",
        "return",
        "rfschar",
        "rhang",
        "rm",
        "rn",
        "rnn",
        "rr",
        "rs",
        "rt",
        "schar",
        "sentchar",
        "shc",
        "shift",
        "sizes",
        "so",
        "spacewidth",
        "special",
        "spreadwarn",
        "ss",
        "sty",
        "substring",
        "sv",
        "sy",
        "T&",
        "tc",
        "TE",
        "tkf",
        "tl",
        "tm",
        "tm1",
        "tmc",
        "tr",
        "track",
        "transchar",
        "trf",
        "trimat",
        "trin",
        "trnt",
        "troff",
        "TS",
        "uf",
        "ul",
        "unformat",
        "unwatch",
        "unwatchn",
        "vpt",
        "vs",
        "warn",
        "warnscale",
        "watch",
        "watchlength",
        "watchn",
        "wh",
        "while",
        "write",
        "writec",
        "writem",
        "xflag",
    ];
    std::str::from_utf8(name).is_ok_and(|name| REQUESTS.contains(&name))
}
