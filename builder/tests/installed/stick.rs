//! A drive with answers, and a server with packages.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::machine::{Other, run};

/// A FAT volume with the label that the installer looks for.
pub fn stick(folder: &Path, text: &str) -> Other {
    let (answers, stick) = (folder.join("answers.toml"), folder.join("stick.img"));
    std::fs::write(&answers, text).unwrap();
    std::fs::File::create(&stick).unwrap().set_len(4 << 20).unwrap();
    let path = stick.to_str().unwrap();
    run("mkfs.vfat", &["-n", "LYCIA_ANSWE", path]);
    run("mcopy", &["-i", path, answers.to_str().unwrap(), "::/"]);
    Other::of(&stick)
}

/// `lycia repo serve` on a free port; ended with this.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves the seed's repository.
pub fn serve(project: &Path) -> Server {
    let store = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"),
        PathBuf::from,
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_lycia"))
        .arg("--project")
        .arg(project)
        .args(["repo", "serve", "--listen", "127.0.0.1:0"])
        .arg(store.join("lycia/seed/repository"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let port = line.trim().trim_end_matches('/').rsplit(':').next().unwrap();
    Server {
        port: port.parse().unwrap_or_else(|_| panic!("no port in {line:?}")),
        child,
    }
}
