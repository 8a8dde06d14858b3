pub fn run(_: &[std::path::PathBuf]) -> (usize, usize) { (0, 0) }
