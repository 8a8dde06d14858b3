//! Running one recipe: scratch, sources, patches, sysroot, steps, and the result under its final name.

use crate::error::{IoContext, Result, SeedError};
use crate::fetch::{Fetcher, apply_patch};
use crate::plan::{BuildRecord, Evaluation, ResultDir, environment};
use crate::project::Files;
use crate::recipe::{Origin, Recipe};
use crate::recipes::Recipes;
use crate::staged::{merge, scan, summarize};
use crate::step::{Cancel, Script};
use crate::store::{StatCache, Store, make_dir, publish_dir, remove, write_json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What running a recipe needs to know.
pub(crate) struct Builder<'a> {
    pub recipes: &'a Recipes,
    pub project: &'a Path,
    pub store: &'a Store,
    pub fetcher: &'a Fetcher<'a>,
    pub cancel: &'a Cancel,
    pub makeflags: String,
}

/// Told as a recipe advances: the step that starts, its number, how many there are.
pub(crate) type Advance<'a> = &'a dyn Fn(&str, usize, usize);

impl Builder<'_> {
    /// Runs a recipe whose needs are the given results, and puts its result at `to`.
    pub(crate) fn build(
        &self,
        recipe: &Recipe,
        evaluation: &Evaluation,
        needs: &BTreeMap<String, PathBuf>,
        jobs: usize,
        to: &ResultDir,
        advance: Advance,
    ) -> Result<BuildRecord> {
        let work = self.store.work(&recipe.name);
        let start = Instant::now();
        remove(&work)?;
        for dir in ["src", "build", "out", "sysroot", "home", "result"] {
            make_dir(&work.join(dir))?;
        }
        let log = work.join("log");
        fs::write(&log, "").at("writing", &log)?;
        let mut steps = Vec::new();
        if !evaluation.skip {
            let total = recipe.steps.len() + 1;
            advance("unpack", 0, total);
            self.prepare(recipe, evaluation, needs, &work)?;
            steps.push(("unpack".to_owned(), start.elapsed().as_secs_f64()));
            let mut environment = environment(recipe, &self.recipes.target, &work, jobs, &self.makeflags)
                .map_err(|why| SeedError::Packaging {
                    recipe: recipe.name.clone(),
                    why,
                })?;
            for need in &recipe.needs {
                let name = format!("NEEDS_{}", need.to_uppercase().replace('-', "_"));
                if let Some(dir) = needs.get(need) {
                    environment.insert(name, dir.display().to_string());
                }
            }
            for (number, step) in recipe.steps.iter().enumerate() {
                advance(&step.name, number + 1, total);
                let begun = Instant::now();
                let script = Script {
                    recipe: &recipe.name,
                    step: &step.name,
                    run: &step.run,
                    environment: &environment,
                    dir: &work.join("build"),
                    log: &log,
                    cancel: self.cancel,
                };
                script.run().map_err(|error| self.keep_log(recipe, &log, error))?;
                steps.push((step.name.clone(), begun.elapsed().as_secs_f64()));
            }
        }
        if self.cancel.is_cancelled() {
            return Err(SeedError::Cancelled);
        }
        let out = work.join("out");
        let tree = scan(&out)?;
        let summary = summarize(&out, &tree, &work)?;
        let mut warnings = Vec::new();
        for path in summary.holding {
            if !recipe.unpackaged.matches(path.as_bytes()) {
                warnings.push(format!("{path} holds the path of the scratch directory"));
            }
        }
        let record = BuildRecord {
            output: summary.hash,
            bytes: summary.bytes,
            seconds: start.elapsed().as_secs_f64(),
            steps,
            skipped: evaluation.skip,
            warnings,
        };
        let result = ResultDir(work.join("result"));
        fs::rename(&out, result.out()).at("moving", &out)?;
        fs::rename(&log, result.log()).at("moving", &log)?;
        write_json(&result.record(), &record)?;
        publish_dir(&result.0, &to.0)?;
        remove(&work)?;
        Ok(record)
    }

    fn prepare(
        &self,
        recipe: &Recipe,
        evaluation: &Evaluation,
        needs: &BTreeMap<String, PathBuf>,
        work: &Path,
    ) -> Result<()> {
        let src = work.join("src");
        for source in &recipe.sources {
            let dir = src.join(&source.unpack);
            match &source.origin {
                Origin::Tree { .. } => {
                    let files = Files::of(recipe, source, self.project)?;
                    files.copy(&dir, recipe.epoch)?;
                    // Somebody may be editing; a result must not be filed under another content's hash.
                    let copied = files.hash(&mut StatCache::default())?;
                    if !evaluation.inputs.values().any(|value| value.starts_with(&copied)) {
                        return Err(SeedError::Fetch {
                            recipe: recipe.name.clone(),
                            what: source.label(),
                            location: "the project".into(),
                            why: "its files changed while they were read; run again".into(),
                        });
                    }
                }
                _ => self.fetcher.place(recipe, source, &src)?,
            }
            for patch in &source.patches {
                apply_patch(recipe, &dir, &self.recipes.dir.join(patch))?;
            }
        }
        for (need, out) in needs {
            let patterns = &self.recipes.all[need].sysroot;
            merge(out, patterns, &work.join("sysroot")).map_err(|why| SeedError::Packaging {
                recipe: recipe.name.clone(),
                why: format!("SYSROOT: {why}"),
            })?;
        }
        Ok(())
    }

    /// A failed step's log survives the next try's scratch.
    fn keep_log(&self, recipe: &Recipe, log: &Path, error: SeedError) -> SeedError {
        let SeedError::Step {
            recipe: name,
            step,
            how,
            tail,
            ..
        } = error
        else {
            return error;
        };
        let kept = self.store.recipe(&recipe.name).join("failed.log");
        let copied = make_dir(&self.store.recipe(&recipe.name))
            .and_then(|()| fs::copy(log, &kept).at("copying to", &kept));
        let log = if copied.is_ok() { kept } else { log.to_owned() };
        SeedError::Step {
            recipe: name,
            step,
            how,
            log,
            tail,
        }
    }
}
