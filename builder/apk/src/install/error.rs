//! Why a transaction cannot be carried out.

use lycia_tree::TreeError;
use thiserror::Error;

/// Why a package cannot be installed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum InstallError {
    /// The tree refuses a path.
    #[error("installing {package}: {error}")]
    Tree {
        /// The package.
        package: String,
        /// Why.
        error: TreeError,
    },
    /// Two packages have the same file and neither replaces the other.
    #[error("installing {package}: {path} belongs to {owner} already, which {package} does not replace")]
    Clash {
        /// The package being installed.
        package: String,
        /// The path that both have.
        path: String,
        /// The package that has it.
        owner: String,
    },
    /// A hard link names a file that its package does not have before it.
    #[error(
        "installing {package}: {path} is a hard link to {target}, which is no earlier file of the package"
    )]
    HardLink {
        /// The package.
        package: String,
        /// The link.
        path: String,
        /// What it names.
        target: String,
    },
    /// The contents given do not fit the package.
    #[error("installing {package}: {found} file contents were given where it has {expected} regular files")]
    Contents {
        /// The package.
        package: String,
        /// Regular files of the package.
        expected: usize,
        /// Contents given.
        found: usize,
    },
    /// Something of another kind has the path, and the transaction does not take it away.
    #[error("installing {package}: {path} is in the way: {what}")]
    InTheWay {
        /// The package.
        package: String,
        /// The path.
        path: String,
        /// What is there and whose it is.
        what: String,
    },
    /// A package that is to be removed or kept is not installed.
    #[error("{package} is not installed, so that it cannot be {doing}")]
    NotInstalled {
        /// The package.
        package: String,
        /// `removed` or `kept`.
        doing: &'static str,
    },
    /// A name stands for an owner that the root does not know.
    #[error(
        "{path} of {package} belongs to the {kind} {name}, which the root does not have: \
         a package that makes it with sysusers.d is missing"
    )]
    UnknownOwner {
        /// The package.
        package: String,
        /// The path.
        path: String,
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
    },
}
