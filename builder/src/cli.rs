//! The command line: one definition gives the parser, the help, the man pages and the completions.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Builds bootable live and installer images of musl/LLVM Linux systems.
#[derive(Debug, Parser)]
#[command(
    name = "lycia",
    version,
    max_term_width = 80,
    after_help = "Example: lycia run live --setup\n\nExit codes: 0 done, 1 fault of lycia, 2 usage, 3 input, 4 verification,\n5 solver, 6 host, 7 target"
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// Folder that holds configs/ and overlays/ [default: the nearest one upwards]
    #[arg(long, global = true, value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// Store of downloads, packs and the seed [default: $XDG_CACHE_HOME/lycia]
    #[arg(long, global = true, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Threads and processes at a time [default: one for each core]
    #[arg(long, global = true, value_name = "N")]
    pub jobs: Option<usize>,
    /// Never touch the network: use what the store has, and say what it lacks
    #[arg(long, global = true)]
    pub offline: bool,
    /// Say nothing but errors
    #[arg(long, global = true)]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an image from its definition
    #[command(after_help = "Example: lycia build live --output output")]
    Build(BuildArgs),
    /// Write the lock of an image: its exact packages, which builds then obey
    #[command(
        after_help = "Example: lycia lock live --upgrade busybox\n\nWhat is locked stays as it is unless the definition or the repositories no\nlonger allow it, or --upgrade names it."
    )]
    Lock(LockArgs),
    /// Say why a package is part of an image
    #[command(after_help = "Example: lycia why musl live\n\nWithout an image: lycia why so:libc.so")]
    Why(WhyArgs),
    /// Say what differs between two locks, or between two media
    #[command(
        after_help = "Example: lycia diff old.iso output/live-x86_64.iso\n\nOf media: by part, by package, by file, and by byte with what the bytes belong\nto."
    )]
    Diff(DiffArgs),
    /// List what is in a medium, disk image, file system or archive, and check it
    #[command(
        after_help = "Example: lycia inspect output/live-x86_64.iso --files\n\nChecksums and a manifest beside the file are compared with it. Exit code 7 says\nthat something is wrong, 3 that it is nothing that is known."
    )]
    Inspect(InspectArgs),
    /// Build an image and boot it under QEMU to a login
    #[command(after_help = "Example: lycia run live --setup")]
    Run(RunArgs),
    /// Boot a built ISO or disk every way and compare it with its manifest
    #[command(after_help = "Example: lycia test output/live-x86_64.iso")]
    Test(TestArgs),
    /// Build the embedded package repository from distribution sources
    #[command(after_help = "Example: lycia seed --explain")]
    Seed(SeedArgs),
    /// Say what the machine lacks, and install it
    #[command(after_help = "Example: lycia doctor --install --tests")]
    Doctor(DoctorArgs),
    /// Make the machine ready: install what it lacks (Debian) and build the seed
    #[command(after_help = "Example: lycia setup --tests")]
    Setup(SetupArgs),
    /// Make, check and serve repositories of one's own
    #[command(after_help = "Example: lycia repo index repository --sign me.rsa")]
    Repo(RepoArgs),
    /// Remove what killed runs left in the store, or all of it
    #[command(after_help = "Example: lycia clean --packs")]
    Clean(CleanArgs),
    /// List the images of the project
    Images,
    /// Print a completion script
    Completions {
        /// For this shell
        shell: clap_complete::Shell,
    },
    /// Write man pages
    Man {
        /// Folder to write them to
        directory: PathBuf,
    },
}

/// Which image, of which architecture.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// Name of a file in configs/images
    pub image: String,
    /// Where packages come from.
    #[command(flatten)]
    pub source: SourceArgs,
}

/// For which architecture, and what replaces repositories.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// Target architecture
    #[arg(long, default_value = "x86_64")]
    pub arch: String,
    /// Take what lies below the URL FROM from TO, a URL or a folder, instead
    #[arg(long, value_name = "FROM=TO")]
    pub mirror: Vec<String>,
    /// Trust this public key, too, for what --mirror replaces
    #[arg(long, value_name = "FILE")]
    pub trust: Vec<PathBuf>,
}

/// `lycia build`
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Image.
    #[command(flatten)]
    pub image: ImageArgs,
    /// Folder for the results
    #[arg(long, default_value = "output", value_name = "DIR")]
    pub output: PathBuf,
    /// Obey this lock [default: configs/images/IMAGE.ARCH.lock if it is there]
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Fail where there is no lock
    #[arg(long)]
    pub locked: bool,
    /// Tarballs and container images hold what differs from this tarball
    #[arg(long, value_name = "TARBALL")]
    pub base: Option<PathBuf>,
    /// Fail where a script or trigger would have to wait for the first boot
    #[arg(long)]
    pub strict: bool,
    /// Write the outputs again even where nothing changed
    #[arg(long)]
    pub force: bool,
    /// Sign the checksums with this private key, as `openssl dgst -sha512` would
    #[arg(long, value_name = "KEY")]
    pub sign: Option<PathBuf>,
    /// Build a second time under other conditions and compare; exit code 4 where
    /// the bytes differ
    #[arg(long)]
    pub verify: bool,
    /// Print what was written as JSON
    #[arg(long)]
    pub json: bool,
}

/// `lycia lock`
#[derive(Debug, Args)]
pub struct LockArgs {
    /// Image.
    #[command(flatten)]
    pub image: ImageArgs,
    /// Where to write it [default: configs/images/IMAGE.ARCH.lock]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Take the newest of these packages, or of all
    #[arg(long, value_name = "PKG", num_args = 0..)]
    pub upgrade: Option<Vec<String>>,
    /// Write nothing; fail where the lock would change
    #[arg(long)]
    pub check: bool,
    /// Print what changed as JSON
    #[arg(long)]
    pub json: bool,
}

/// `lycia why`
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// A package, or a name that packages provide, such as so:libc.so
    #[arg(value_name = "PKG")]
    pub package: String,
    /// Image; without one, every image that has the package: of those with a lock, if any has one
    pub image: Option<String>,
    /// Where packages come from.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Print the chain as JSON; without IMAGE, a list of them
    #[arg(long)]
    pub json: bool,
}

/// `lycia diff`
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// What was
    pub old: PathBuf,
    /// What is
    pub new: PathBuf,
    /// Fail where there is a difference
    #[arg(long)]
    pub check: bool,
    /// Print the difference as JSON
    #[arg(long)]
    pub json: bool,
}

/// `lycia inspect`
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// What to look at
    pub file: PathBuf,
    /// List every file of every file system, with where it is from
    #[arg(long)]
    pub files: bool,
    /// Verify it by signed checksums beside it, with this public key
    #[arg(long, value_name = "KEY.pub")]
    pub verify: Option<PathBuf>,
    /// Print what was found as JSON
    #[arg(long)]
    pub json: bool,
}

/// `lycia run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What is built.
    #[command(flatten)]
    pub build: BuildArgs,
    /// First install what the machine lacks (Debian) and build the seed
    #[arg(long)]
    pub setup: bool,
    /// Start with UEFI instead of BIOS
    #[arg(long)]
    pub uefi: bool,
    /// Attach the medium as a disk instead of a CD
    #[arg(long)]
    pub disk: bool,
    /// Write a picture of the screen at the login to this PNG
    #[arg(long, value_name = "FILE")]
    pub screenshot: Option<PathBuf>,
    /// Stay at the console of the guest instead of ending at its login
    #[arg(long, short)]
    pub interactive: bool,
    /// Seconds until the login must be there
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub limit: u64,
}

/// `lycia test`
#[derive(Debug, Args)]
pub struct TestArgs {
    /// An ISO or disk (.img, .qcow2) with its manifest beside it
    #[arg(value_name = "FILE")]
    pub iso: PathBuf,
    /// Only these cells, such as bios-cd or uefi-disk
    #[arg(long, value_name = "CELL")]
    pub cell: Vec<String>,
    /// Folder for pictures and transcripts
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// Seconds for each stage of a boot
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub limit: u64,
}

/// `lycia seed`
#[derive(Debug, Args)]
pub struct SeedArgs {
    /// Only these recipes and what they need
    #[arg(value_name = "RECIPE")]
    pub only: Vec<String>,
    /// Target architecture
    #[arg(long, default_value = "x86_64")]
    pub arch: String,
    /// Say what would be done and why, and do nothing
    #[arg(long)]
    pub explain: bool,
    /// Build this recipe even where nothing changed
    #[arg(long, value_name = "RECIPE")]
    pub force: Vec<String>,
    /// Ask the archive again what is newest
    #[arg(long)]
    pub refresh: bool,
}

/// `lycia doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Install what is missing with apt-get
    #[arg(long)]
    pub install: bool,
    /// Look for what the tests need, too
    #[arg(long)]
    pub tests: bool,
}

/// `lycia setup`
#[derive(Debug, Args)]
pub struct SetupArgs {
    /// Get ready for the tests, too
    #[arg(long)]
    pub tests: bool,
}

/// `lycia repo`
#[derive(Debug, Args)]
pub struct RepoArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: RepoCommand,
}

/// What can be done about a repository.
#[derive(Debug, Subcommand)]
pub enum RepoCommand {
    /// Make a signing key: PATH, for your eyes only, and PATH.pub
    #[command(after_help = "Example: lycia repo key me@example.org-1.rsa")]
    Key {
        /// File of the private half
        path: PathBuf,
    },
    /// Write Packages.adb for each folder of packages
    #[command(after_help = "Example: lycia repo index repository --sign me.rsa --apkindex

Packages lie in repository/ARCH/NAME-VERSION.apk.")]
    Index(RepoIndexArgs),
    /// Add signatures to packages or indexes
    #[command(after_help = "Example: lycia repo sign --key me.rsa repository/x86_64/*.apk")]
    Sign(RepoSignArgs),
    /// Check indexes and every byte of their packages
    #[command(after_help = "Example: lycia repo verify repository --key me.rsa.pub")]
    Verify(RepoVerifyArgs),
    /// Serve a folder over HTTP, to this machine unless told otherwise
    #[command(after_help = "Example: lycia repo serve repository --listen 127.0.0.1:8080

Prints its URL and serves until it is ended. Hidden files are not served.")]
    Serve(RepoServeArgs),
}

/// `lycia repo index`
#[derive(Debug, Args)]
pub struct RepoIndexArgs {
    /// The repository, or one folder of packages
    pub directory: PathBuf,
    /// Sign with this private key; packages that it signed are trusted
    #[arg(long, value_name = "KEY")]
    pub sign: Vec<PathBuf>,
    /// Trust packages signed by this public key, or any of a folder
    #[arg(long, value_name = "PUB")]
    pub key: Vec<PathBuf>,
    /// Take packages that no trusted key signed
    #[arg(long)]
    pub untrusted: bool,
    /// Form of the packages' identities
    #[arg(long, value_enum, default_value = "sha256")]
    pub hash: HashForm,
    /// Text in the index
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub description: String,
    /// Link it as APKINDEX.tar.gz, too, as Chimera does for old tools
    #[arg(long)]
    pub apkindex: bool,
    /// Print what was written as JSON
    #[arg(long)]
    pub json: bool,
}

/// Forms of identities in an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum HashForm {
    /// 32 bytes
    #[value(name = "sha256")]
    Sha256,
    /// 20 bytes, as Chimera's indexes have
    #[value(name = "sha256-160")]
    Sha256_160,
}

/// `lycia repo sign`
#[derive(Debug, Args)]
pub struct RepoSignArgs {
    /// Packages or indexes, which are changed
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Sign with this private key
    #[arg(long, required = true, value_name = "KEY")]
    pub key: Vec<PathBuf>,
    /// Drop the signatures that are there
    #[arg(long)]
    pub replace: bool,
}

/// `lycia repo verify`
#[derive(Debug, Args)]
pub struct RepoVerifyArgs {
    /// The repository, or one folder of packages
    pub directory: PathBuf,
    /// Trust this public key, or those of a folder
    #[arg(long, value_name = "PUB")]
    pub key: Vec<PathBuf>,
    /// Check everything but signatures
    #[arg(long)]
    pub untrusted: bool,
    /// Print what was found as JSON
    #[arg(long)]
    pub json: bool,
}

/// `lycia repo serve`
#[derive(Debug, Args)]
pub struct RepoServeArgs {
    /// The folder
    #[arg(default_value = ".")]
    pub directory: PathBuf,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    pub listen: String,
}

/// `lycia clean`
#[derive(Debug, Args)]
pub struct CleanArgs {
    /// Unpacked packages and downloads of packages, too
    #[arg(long)]
    pub packs: bool,
    /// Everything, the seed and its key, too
    #[arg(long)]
    pub all: bool,
}
