//! Compiles a folder of `*.hwdb` files, to compare with systemd-hwdb and to measure:
//! `cargo run --release -p lycia-root --example hwdb -- FOLDER OUTPUT`

use std::error::Error;
use std::time::Instant;

use lycia_root::hwdb::{Source, compile};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(folder), Some(output)) = (words.next(), words.next()) else {
        return Err("usage: hwdb FOLDER OUTPUT".into());
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        let name = path.to_string_lossy().into_owned();
        if name.ends_with(".hwdb") {
            files.push((name, std::fs::read(path)?));
        }
    }
    files.sort();
    let sources: Vec<Source<'_>> = files.iter().map(|(path, bytes)| Source { path, bytes }).collect();
    let begin = Instant::now();
    let database = compile(&sources)?;
    println!(
        "{} files, {} bytes in {:.3} s",
        files.len(),
        database.bytes.len(),
        begin.elapsed().as_secs_f64()
    );
    for warning in &database.warnings {
        println!("{warning}");
    }
    std::fs::write(output, database.bytes)?;
    Ok(())
}
