//! What is wrong in a config: the field by its path in the JSON, and the problem in words.
//!
//! Every error of this crate is of this one shape, so that it can be found by the field it names.

use std::fmt;

/// `linux.seccomp: not supported yet`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The field as JSON paths go: `mounts[3].options[1]`. Empty: the text is no JSON; whoever read it knows the file.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl Error {
    pub fn new(field: impl Into<String>, problem: impl fmt::Display) -> Error {
        Error { field: field.into(), problem: problem.to_string() }
    }
    /// For what the specification knows and we do not build yet: never silence.
    pub fn unsupported(field: impl Into<String>) -> Error {
        Error::new(field, "not supported yet")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.problem),
            field => write!(f, "{field}: {}", self.problem),
        }
    }
}

impl std::error::Error for Error {}
