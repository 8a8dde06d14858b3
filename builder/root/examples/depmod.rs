//! Indexes the modules of a kernel's folder on disk, to compare with kmod's depmod and to measure:
//! `cargo run --release -p lycia-root --example depmod -- FOLDER OUTPUT`

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use lycia_root::depmod;
use lycia_tree::{Metadata, Timestamp, Tree};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args_os().skip(1);
    let (Some(folder), Some(output)) = (words.next(), words.next()) else {
        return Err("usage: depmod FOLDER OUTPUT".into());
    };
    let time = Timestamp::from_seconds(0);
    let mut tree = Tree::new(Metadata::new(0o755, time));
    read(&mut tree, Path::new(&folder), "usr/lib/modules/kernel")?;
    let begin = Instant::now();
    let written = depmod::run(&mut tree, "kernel", time)?;
    println!(
        "{} files in {:.3} s",
        written.len(),
        begin.elapsed().as_secs_f64()
    );
    for path in written {
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        std::fs::write(Path::new(&output).join(name), tree.read(&path)?)?;
    }
    Ok(())
}

fn read(tree: &mut Tree, folder: &Path, to: &str) -> Result<(), Box<dyn Error>> {
    let time = Timestamp::from_seconds(0);
    tree.make_directories(to.as_bytes(), Metadata::new(0o755, time))?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{to}/{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            read(tree, &entry.path(), &path)?;
        } else if kind.is_file() {
            let bytes = std::fs::read(entry.path())?;
            tree.write(path.as_bytes(), Metadata::new(0o644, time), bytes.into())?;
        }
    }
    Ok(())
}
