//! What a choice of packages comes to, while it is being made.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::answers::Source;
use crate::answers::typed::{AnswersFile, PackagesTable, SourceTable};
use crate::engine::{self, Wanted};
use crate::file_system::Kind;
use crate::medium::Medium;
use crate::show;
use crate::source::{Chosen, Repositories};

/// Names of packages that are shown at most.
const NAMES: usize = 12;

/// The keyboard with which passwords are typed: here, and at every start.
#[derive(Clone, Copy, Debug)]
pub struct Keyboard<'a> {
    /// The layout that was chosen.
    pub keymap: Option<&'a str>,
    /// Whether the initramfs loads it before it asks for the passphrase of the root.
    pub loaded_early: bool,
    /// Why this console could not be given it.
    pub kept: Option<&'a str>,
}

impl Keyboard<'_> {
    /// What must be said where the same keys would mean something else later than now.
    #[must_use]
    pub fn warning(&self, encrypted: bool) -> Option<String> {
        let keymap = self
            .keymap
            .filter(|keymap| !matches!(*keymap, "us" | "none"))
            .map(show::printable)?;
        if encrypted && !self.loaded_early {
            return Some(format!(
                "At every start the passphrase of the encrypted root is typed with the kernel's own keyboard layout, US: `{keymap}` is loaded later. \
                 Choose one whose keys are the same in both."
            ));
        }
        let why = self.kept?;
        Some(format!(
            "This console keeps its keyboard layout ({why}); later `{keymap}` is used. Choose passwords whose keys are the same in both."
        ))
    }
}

/// Chooses packages as an installation would. Repositories are opened once for each source.
pub struct Advice<'a> {
    medium: &'a Medium,
    /// With the source and the allocator that they are for.
    opened: RefCell<Option<(SourceTable, Option<String>, Repositories)>>,
}

impl<'a> Advice<'a> {
    /// Advice on what `medium` can install.
    #[must_use]
    pub fn new(medium: &'a Medium) -> Self {
        Self {
            medium,
            opened: RefCell::default(),
        }
    }

    fn chosen(&self, file: &AnswersFile, packages: &PackagesTable) -> Result<Vec<Chosen>, String> {
        let wanted = Wanted {
            kernel: packages.kernel.as_deref(),
            sets: &packages.sets,
            extra: &packages.extra,
            allocator: packages.allocator.as_deref(),
            file_system: file
                .disk
                .filesystem
                .as_deref()
                .and_then(Kind::named)
                .unwrap_or_default(),
            network: file.network.kind.as_deref() != Some("none"),
        };
        let world = engine::world(self.medium, &wanted).map_err(|error| error.to_string())?;
        let opened = self.opened.borrow();
        let Some((_, _, repositories)) = opened.as_ref() else {
            return Err("no repository is open".to_owned());
        };
        repositories.solve(&world).map_err(|error| error.to_string())
    }

    fn open(&self, file: &AnswersFile) -> Result<(), String> {
        let allocator = &file.packages.allocator;
        if matches!(self.opened.borrow().as_ref(), Some((source, with, _)) if *source == file.source && with == allocator)
        {
            return Ok(());
        }
        let source: Source = file.resolve_source().map_err(|problems| problems.to_string())?;
        let repositories = engine::repositories(self.medium, &source, allocator.as_deref())
            .map_err(|error| error.to_string())?;
        *self.opened.borrow_mut() = Some((file.source.clone(), allocator.clone(), repositories));
        Ok(())
    }

    /// How many packages these answers install and how large they are, and which come with what was added to the base.
    ///
    /// # Errors
    /// Says why the packages cannot be had together, or at all.
    pub fn of(&self, file: &AnswersFile) -> Result<Vec<String>, String> {
        self.open(file)?;
        let chosen = self.chosen(file, &file.packages)?;
        let size = |list: &[Chosen]| -> u64 { list.iter().map(|one| one.entry.installed_size).sum() };
        let mut lines = vec![format!(
            "{} packages, {} installed.",
            chosen.len(),
            show::size(size(&chosen))
        )];
        if !file.packages.extra.is_empty() || !file.packages.sets.is_empty() {
            let base = PackagesTable {
                extra: Vec::new(),
                sets: Vec::new(),
                ..file.packages.clone()
            };
            // A base that cannot be had by itself has nothing to be compared with.
            if let Ok(base) = self.chosen(file, &base) {
                let there: BTreeSet<&str> = base.iter().map(|one| one.entry.name.as_str()).collect();
                let more: Vec<&str> = chosen
                    .iter()
                    .map(|one| one.entry.name.as_str())
                    .filter(|name| !there.contains(name))
                    .collect();
                let mut names = more.iter().take(NAMES).copied().collect::<Vec<_>>().join(", ");
                if more.len() > NAMES {
                    names.push_str(", ...");
                }
                lines.push(format!(
                    "Beyond the base: {} packages, {}{}{names}.",
                    more.len(),
                    show::size(size(&chosen).saturating_sub(size(&base))),
                    if more.is_empty() { "" } else { ": " }
                ));
            }
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_of_a_passphrase_is_told_where_it_matters() {
        let us = Keyboard {
            keymap: Some("us"),
            loaded_early: false,
            kept: None,
        };
        for keymap in [None, Some("us"), Some("none")] {
            assert_eq!(Keyboard { keymap, ..us }.warning(true), None);
        }
        let de = Keyboard {
            keymap: Some("de"),
            ..us
        };
        assert_eq!(de.warning(false), None);
        let said = de.warning(true).unwrap();
        assert!(said.contains("`de`") && said.contains("US"), "{said}");
        let early = Keyboard {
            loaded_early: true,
            ..de
        };
        assert_eq!(early.warning(true), None);
        let kept = Keyboard {
            kept: Some("no such file"),
            ..early
        };
        let said = kept.warning(true).unwrap();
        assert!(
            said.contains("keeps") && said.contains("no such file") && kept.warning(false).is_some(),
            "{said}"
        );
    }
}
