//! Carrying out what the solver decided.

use super::{InstallError, Installation, Unpacked};
use crate::solver::{Operation, PackageId, Solution, Universe};

impl Installation<'_> {
    /// Makes the changes of a solution, in its order. `supply` gives each package that comes, verified and with
    /// its contents; its repository tag is set here. The universe must have been told of the same database that
    /// this transaction started from.
    ///
    /// Switching the allocator of an installed Chimera system, from its tree to the list of files to write:
    ///
    /// ```
    /// use lycia_apk::database::Database;
    /// use lycia_apk::dependency::{parse, parse_world, parse_world_entry};
    /// use lycia_apk::install::{ChangeKind, InstallError, Installation, Names, Options, ProtectedPaths, Unpacked};
    /// use lycia_apk::metadata::{Acl, Digest, DirEntry, FileEntry, FileKind, Package, PackageInfo};
    /// use lycia_apk::solver::{Command, Request, UniverseBuilder, solve};
    /// use lycia_tree::{Content, Metadata, Timestamp, Tree};
    ///
    /// # fn package(name: &str, number: u8) -> Unpacked {
    /// #     let file = FileEntry { name: b"libc.so".to_vec(), acl: Acl::root(0o755), size: 1, mtime: 0,
    /// #         kind: FileKind::Regular { hash: vec![number; 32] } };
    /// #     let mut info = PackageInfo { name: name.into(), version: "1.2.6-r0".into(), installed_size: 1,
    /// #         hashes: Some(Digest(vec![number; 20])), ..PackageInfo::default() };
    /// #     if number == 2 { info.replaces = vec![parse("musl").unwrap()]; }
    /// #     let paths = ["usr", "usr/lib"].map(|path| DirEntry { path: path.into(), acl: Acl::root(0o755),
    /// #         files: if path == "usr" { vec![] } else { vec![file.clone()] } }).to_vec();
    /// #     let package = Package { info: info.clone(), paths, ..Package::default() };
    /// #     Unpacked { entry: info, package, contents: vec![Content::from(name)], ..Unpacked::default() }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let time = Timestamp::from_seconds(0);
    /// # let mut tree = Tree::new(Metadata::new(0o755, time));
    /// # let mut first = Installation::new(&mut tree, time);
    /// # first.add(package("musl", 1))?;
    /// # let before = first.finish(&Names::default());
    /// # before.database.store(&mut tree, &parse_world("musl")?, time, true)?;
    /// // The present root: its tree, its database, its world.
    /// let database = Database::load(&tree)?;
    /// let world = parse_world(std::str::from_utf8(tree.read(b"etc/apk/world")?)?)?;
    ///
    /// // What there is and what is asked for.
    /// let mut universe = UniverseBuilder::new(["x86_64"]);
    /// for installed in &database.packages {
    ///     universe.installed(installed.info.clone(), installed.tag.as_deref())?;
    /// }
    /// universe.repository([None], [package("musl", 1).entry, package("musl-mallocng", 2).entry])?;
    /// let universe = universe.finish()?;
    /// let entries = vec![parse_world_entry("musl-mallocng")?];
    /// let command = Command::Add { entries, upgrade: false, latest: false };
    /// let solution = solve(&universe, &Request { world, command, ..Request::default() })?;
    ///
    /// // The changed tree, and what has to be done on the disk.
    /// let options = Options { protected: ProtectedPaths::of(&tree), ..Options::new(time) };
    /// let mut installation = Installation::over(&mut tree, database, options);
    /// installation.carry_out(&universe, &solution, |id| match universe.info(id).name.as_str() {
    ///     "musl-mallocng" => Ok::<_, InstallError>(package("musl-mallocng", 2)),
    ///     other => unreachable!("{other} is there already"),
    /// })?;
    /// let done = installation.finish(&Names::default());
    /// done.database.store(&mut tree, &solution.world, time, false)?;
    /// assert_eq!(tree.read(b"usr/lib/libc.so")?, b"musl-mallocng");
    /// let changes: Vec<_> = done.changes.iter().map(|change| (&change.path[..], &change.kind)).collect();
    /// assert_eq!(changes, [(&b"/usr/lib/libc.so"[..], &ChangeKind::Write)]);
    /// assert_eq!(tree.read(b"etc/apk/world")?, b"musl\nmusl-mallocng\n");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The first that `supply` or an installation gives; the tree may have got the changes before it.
    pub fn carry_out<E: From<InstallError>>(
        &mut self,
        universe: &Universe,
        solution: &Solution,
        mut supply: impl FnMut(PackageId) -> Result<Unpacked, E>,
    ) -> Result<(), E> {
        let going = solution.changes.iter().filter(|change| change.old != change.new);
        self.leaving(
            going
                .filter_map(|change| change.old)
                .map(|id| universe.info(id).name.as_str()),
        );
        for change in &solution.changes {
            match (change.operation, change.old, change.new) {
                (_, Some(old), None) => self.remove(&universe.info(old).name)?,
                (Operation::Keep | Operation::Repin, _, Some(new)) => {
                    self.keep(&universe.info(new).name, change.tag.clone())?;
                }
                (_, _, Some(new)) => {
                    let tag = change.tag.clone();
                    self.add(Unpacked { tag, ..supply(new)? })?;
                }
                (_, None, None) => {}
            }
        }
        Ok(())
    }
}
