//! Which bytes of a file belong to what.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes that belong to something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// First byte behind it.
    pub end: u64,
    /// What they belong to.
    pub label: String,
}

/// The regions without overlaps, in the order of their bytes: the smallest one counts.
pub fn flat(regions: &[Region], size: u64) -> Vec<(u64, u64, &str)> {
    // Where something begins and ends; between two such places the same regions are open.
    let mut events: BTreeMap<u64, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    events.entry(0).or_default();
    events.entry(size).or_default();
    for (number, region) in regions.iter().enumerate() {
        if region.start < region.end && region.end <= size {
            events.entry(region.start).or_default().0.push(number);
            events.entry(region.end).or_default().1.push(number);
        }
    }
    // Of two of the same size the later one is the one inside.
    let key = |number: usize| (regions[number].end - regions[number].start, Reverse(number));
    let mut open: BTreeSet<(u64, Reverse<usize>)> = BTreeSet::new();
    let mut flat = Vec::new();
    let mut from = 0;
    for (at, (begins, ends)) in events {
        if at > from {
            let label = open
                .first()
                .map_or("", |&(_, Reverse(number))| regions[number].label.as_str());
            flat.push((from, at, label));
        }
        for number in ends {
            open.remove(&key(number));
        }
        for number in begins {
            open.insert(key(number));
        }
        from = at;
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_region_counts() {
        let region = |start, end, label: &str| Region {
            start,
            end,
            label: label.to_owned(),
        };
        let regions = [
            region(0, 100, "disk"),
            region(10, 60, "partition"),
            region(20, 30, "file"),
            region(20, 30, "inside"),
            region(90, 120, "beyond"),
        ];
        assert_eq!(
            flat(&regions, 100),
            [
                (0, 10, "disk"),
                (10, 20, "partition"),
                (20, 30, "inside"),
                (30, 60, "partition"),
                (60, 100, "disk")
            ]
        );
    }
}
