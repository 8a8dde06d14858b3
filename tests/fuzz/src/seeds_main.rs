//! Writes the seeds of a target, or of all: `seeds FOLDER [TARGET…]` makes FOLDER/TARGET/NUMBER. Without a folder it
//! lists the targets.

use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((folder, names)) = arguments.split_first() else {
        for target in lycia_fuzz::targets() {
            println!("{}", target.name);
        }
        return Ok(());
    };
    for target in lycia_fuzz::targets() {
        if !names.is_empty() && !names.iter().any(|name| name == target.name) {
            continue;
        }
        let folder = Path::new(folder).join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
