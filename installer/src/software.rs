//! The packages of one installation: chosen, and unpacked and put together once, whether to try the answers out on them or to install them.

use std::path::Path;

use crate::answers::Source;
use crate::engine::{EngineError, Event};
use crate::source::{Chosen, Repositories};
use crate::system::Packages;

/// What is installed, and from where.
pub(crate) struct Software {
    pub chosen: Vec<Chosen>,
    pub repositories: Repositories,
    pub world: Vec<String>,
    /// The medium's packages, once they were put together.
    ready: Option<Packages>,
}

impl Software {
    pub fn new(chosen: Vec<Chosen>, repositories: Repositories, world: Vec<String>) -> Software {
        Software {
            chosen,
            repositories,
            world,
            ready: None,
        }
    }

    /// The packages, unpacked into `scratch` and put together, unless they were before.
    pub fn ready(&self, scratch: &Path, events: &mut dyn FnMut(Event)) -> Result<Packages, EngineError> {
        let total = self.chosen.iter().map(|one| one.entry.installed_size).sum();
        if let Some(ready) = &self.ready {
            events(Event::Package(total, total, String::new()));
            events(Event::Assemble);
            return Ok(ready.clone());
        }
        let unpacked = self
            .repositories
            .unpack(&self.chosen, scratch, &mut |done, name| {
                events(Event::Package(done, total, name.to_owned()));
            })?;
        events(Event::Assemble);
        Ok(Packages::new(unpacked)?)
    }

    /// The packages, kept for later as well, where they lie on the medium. What is on a network is not fetched before somebody agrees.
    pub fn at_hand(
        &mut self,
        source: &Source,
        scratch: &Path,
        events: &mut dyn FnMut(Event),
    ) -> Result<Option<Packages>, EngineError> {
        if *source != Source::Local {
            return Ok(None);
        }
        let ready = self.ready(scratch, events)?;
        self.ready = Some(ready.clone());
        Ok(Some(ready))
    }
}
