//! The packages of one installation: chosen, and unpacked once, whether to try the answers out on them or to install them.

use std::path::Path;

use lycia_apk::install::Unpacked;

use crate::answers::Source;
use crate::engine::Event;
use crate::source::{Chosen, Repositories, SourceError};

/// What is installed, and from where.
pub(crate) struct Software {
    pub chosen: Vec<Chosen>,
    pub repositories: Repositories,
    pub world: Vec<String>,
    /// What the medium's packages hold, once they were unpacked.
    unpacked: Option<Vec<Unpacked>>,
}

impl Software {
    pub fn new(chosen: Vec<Chosen>, repositories: Repositories, world: Vec<String>) -> Software {
        Software {
            chosen,
            repositories,
            world,
            unpacked: None,
        }
    }

    /// The packages, unpacked into `scratch` unless they were before.
    pub fn unpacked(
        &self,
        scratch: &Path,
        events: &mut dyn FnMut(Event),
    ) -> Result<Vec<Unpacked>, SourceError> {
        let total = self.chosen.iter().map(|one| one.entry.installed_size).sum();
        if let Some(unpacked) = &self.unpacked {
            events(Event::Package(total, total, String::new()));
            return Ok(unpacked.clone());
        }
        self.repositories
            .unpack(&self.chosen, scratch, &mut |done, name| {
                events(Event::Package(done, total, name.to_owned()));
            })
    }

    /// The packages, unpacked and kept, where they lie on the medium. What is on a network is not fetched before somebody agrees.
    pub fn at_hand(
        &mut self,
        source: &Source,
        scratch: &Path,
        events: &mut dyn FnMut(Event),
    ) -> Result<Option<Vec<Unpacked>>, SourceError> {
        if *source != Source::Local {
            return Ok(None);
        }
        let unpacked = self.unpacked(scratch, events)?;
        self.unpacked = Some(unpacked.clone());
        Ok(Some(unpacked))
    }
}
