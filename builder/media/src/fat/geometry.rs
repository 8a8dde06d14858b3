//! How a volume is divided (Microsoft's `fatgen103`, "FAT Data Structure" and "FAT Type Determination").

use super::Width;

/// Most clusters of each width, and the least of the wider ones: readers tell the widths apart by these.
pub(super) const MOST_12: u64 = 4084;
pub(super) const MOST_16: u64 = 65_524;
pub(super) const MOST_32: u64 = 0x0fff_fff4;
/// Copies of the allocation table.
pub(super) const TABLES: u64 = 2;
/// Bytes of a directory entry.
pub(super) const ENTRY: u64 = 32;

/// The division of a volume, in sectors unless said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Geometry {
    pub(super) width: Width,
    /// Bytes.
    pub(super) sector: u64,
    pub(super) sectors: u64,
    pub(super) per_cluster: u64,
    /// Before the first table.
    pub(super) reserved: u64,
    /// Of one table.
    pub(super) table: u64,
    /// Entries of the root directory, which has a place of its own but for FAT32.
    pub(super) root_entries: u64,
    pub(super) clusters: u64,
}

impl Geometry {
    /// Divides `size` bytes; the root directory has `root_entries` entries.
    pub(super) fn compute(
        size: u64,
        sector: u64,
        width: Option<Width>,
        root_entries: u64,
    ) -> Result<Geometry, String> {
        let width = width.unwrap_or(match size {
            0..0x100_0000 => Width::Fat12,
            0x100_0000..0x2000_0000 => Width::Fat16,
            _ => Width::Fat32,
        });
        let sectors = size / sector;
        if sectors > u64::from(u32::MAX) {
            return Err("it has more than 2^32 sectors".to_owned());
        }
        // Clusters smaller than these are only taken where there would be too few.
        let (least, most, usual) = match width {
            Width::Fat12 => (1, MOST_12, 2048),
            Width::Fat16 => (MOST_12 + 1, MOST_16, 2048),
            Width::Fat32 => (MOST_16 + 1, MOST_32, 4096),
        };
        let with = |per_cluster: u64| divide(width, sector, sectors, per_cluster, root_entries);
        let sizes = || {
            (0..7)
                .map(|log| 1 << log)
                .filter(|&per_cluster| per_cluster * sector <= 32 << 10)
        };
        let fits = |geometry: &Geometry| (least..=most).contains(&geometry.clusters);
        let usual_ones = sizes().filter(|&per_cluster| per_cluster * sector >= usual);
        let smaller = sizes().filter(|&per_cluster| per_cluster * sector < usual).rev();
        usual_ones
            .chain(smaller)
            .filter_map(with)
            .find(fits)
            .ok_or_else(|| format!("it has too few or too many sectors of {sector} bytes for {width:?}"))
    }

    /// Bytes of a cluster.
    pub(super) fn cluster(&self) -> u64 {
        self.per_cluster * self.sector
    }

    /// The first byte of the table `number`.
    pub(super) fn table_at(&self, number: u64) -> u64 {
        (self.reserved + number * self.table) * self.sector
    }

    /// The first byte of a root directory with a place of its own.
    pub(super) fn root_at(&self) -> u64 {
        self.table_at(TABLES)
    }

    /// The first byte of the cluster `number`, from 2 on.
    pub(super) fn cluster_at(&self, number: u64) -> u64 {
        self.root_at() + self.root_entries * ENTRY + (number - 2) * self.cluster()
    }
}

fn divide(width: Width, sector: u64, sectors: u64, per_cluster: u64, root_entries: u64) -> Option<Geometry> {
    let (bits, least_reserved) = match width {
        Width::Fat12 => (12, 1),
        Width::Fat16 => (16, 1),
        Width::Fat32 => (32, 32),
    };
    let root_entries = match width {
        Width::Fat32 => 0,
        _ => root_entries.next_multiple_of(sector / ENTRY),
    };
    let root = root_entries * ENTRY / sector;
    let mut table = 1;
    // The tables take room that clusters then need no entries for: a few rounds settle it.
    loop {
        let before = least_reserved + TABLES * table + root;
        // Clusters begin at multiples of their size, within what the field for reserved sectors holds.
        let reserved = least_reserved + before.next_multiple_of(per_cluster) - before;
        let clusters = sectors.checked_sub(reserved + TABLES * table + root)? / per_cluster;
        let needed = ((clusters + 2) * bits).div_ceil(8 * sector);
        if needed <= table {
            return Some(Geometry {
                width,
                sector,
                sectors,
                per_cluster,
                reserved,
                table,
                root_entries,
                clusters,
            });
        }
        table = needed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_and_clusters() {
        for (size, sector, width, expected, cluster) in [
            (1 << 20, 512, None, Width::Fat12, 2048),
            (8 << 20, 512, None, Width::Fat12, 2048),
            (16 << 20, 512, None, Width::Fat16, 2048),
            (64 << 20, 512, None, Width::Fat16, 2048),
            (256 << 20, 512, None, Width::Fat16, 4096),
            (34 << 20, 512, Some(Width::Fat32), Width::Fat32, 512),
            (300 << 20, 512, Some(Width::Fat32), Width::Fat32, 4096),
            (600 << 20, 512, None, Width::Fat32, 4096),
            (260 << 20, 4096, Some(Width::Fat32), Width::Fat32, 4096),
            (100 << 30, 512, None, Width::Fat32, 4096),
        ] {
            let geometry = Geometry::compute(size, sector, width, 512).unwrap();
            assert_eq!(
                (geometry.width, geometry.cluster()),
                (expected, cluster),
                "{size}"
            );
            assert!(geometry.cluster_at(geometry.clusters + 2) <= size);
            assert_eq!(geometry.cluster_at(2) % geometry.cluster(), 0);
        }
        assert!(Geometry::compute(20 << 20, 512, Some(Width::Fat32), 512).is_err());
        assert!(Geometry::compute(512, 512, None, 512).is_err());
        assert!(Geometry::compute(1 << 50, 512, None, 512).is_err());
    }
}
