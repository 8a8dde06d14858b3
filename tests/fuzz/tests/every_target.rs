//! Every target over its seeds, over inputs that were once a fault, and over mutations: the same in every run.

use std::path::Path;

use lycia_fuzz::{Mutator, Target, targets};

/// Mutations for each target. Formats that are slow to read get through them in seconds.
const MUTATIONS: usize = 20_000;
/// More than any target may take at its worst, seeds and all.
const PEAK_KIB: u64 = 1 << 20;

fn mutations(target: &Target) {
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "{} has no seeds", target.name);
    let mut mutator = Mutator::new(1);
    let mut refused = 0;
    for _ in 0..MUTATIONS {
        refused += usize::from(!(target.run)(&mutator.mutate(&seeds)));
    }
    // A parser that takes everything checks nothing.
    assert!(refused > 0, "{} took {MUTATIONS} damaged inputs", target.name);
}

#[test]
fn seeds_are_taken() {
    let mut refused = Vec::new();
    for target in targets() {
        for (number, seed) in (target.seeds)().iter().enumerate() {
            if !(target.run)(seed) {
                refused.push(format!("{} refuses its seed {number}", target.name));
            }
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn what_was_once_a_fault_is_none() {
    let hostile = Path::new(env!("CARGO_MANIFEST_DIR")).join("hostile");
    for folder in std::fs::read_dir(hostile).into_iter().flatten() {
        let folder = folder.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let target = lycia_fuzz::target(&name).unwrap_or_else(|| panic!("hostile/{name} is no target"));
        for input in std::fs::read_dir(&folder).unwrap() {
            let input = input.unwrap().path();
            println!("{}", input.display());
            (target.run)(&std::fs::read(&input).unwrap());
        }
    }
}

#[test]
fn mutated_inputs_do_no_harm() {
    for target in targets() {
        mutations(target);
        println!("{}: {MUTATIONS} inputs", target.name);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap();
    assert!(peak < PEAK_KIB, "{peak} KiB at the most");
}
