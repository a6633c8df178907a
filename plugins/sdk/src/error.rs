//! What a plugin answers instead of a reply: a status of the ABI and a sentence.
//!
//! Any `std::error::Error` becomes one by `?`, so a handler reads like other Rust; `Error::veto` alone is not a failure but an
//! answer. (For that blanket conversion this type cannot implement `std::error::Error` itself, as with other catch-all errors.)
use crate::abi;
use std::fmt::{self, Display};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    status: i32,
    text: String,
}

/// The status of a default handler: never leaves the SDK.
const UNHANDLED: i32 = i32::MIN;

impl Error {
    /// Something failed; the plugin's policy says what that means for the container.
    pub fn new(text: impl Display) -> Error {
        Error { status: abi::E_FAIL, text: text.to_string() }
    }

    /// The answer "no": stops this start whatever the policy, and is shown in its status.
    pub fn veto(text: impl Display) -> Error {
        Error { status: abi::E_VETO, text: text.to_string() }
    }

    /// A status of the ABI with its own text.
    pub fn with_status(status: i32, text: impl Display) -> Error {
        Error { status, text: text.to_string() }
    }

    pub fn cancelled() -> Error {
        Error::with_status(abi::E_CANCELLED, "cancelled at its deadline")
    }

    pub(crate) fn unhandled() -> Error {
        Error::with_status(UNHANDLED, "no handler")
    }

    pub(crate) fn is_unhandled(&self) -> bool {
        self.status == UNHANDLED
    }

    pub(crate) fn of_host(doing: &str, status: i32) -> Error {
        Error::with_status(status, format!("{doing}: {}", abi::status_text(status)))
    }

    pub fn status(&self) -> i32 {
        self.status
    }

    pub fn is_veto(&self) -> bool {
        self.status == abi::E_VETO
    }

    /// The same error, said to have happened while doing `what`.
    pub fn context(mut self, what: impl Display) -> Error {
        self.text = format!("{what}: {}", self.text);
        self
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, abi::status_text(self.status))
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Error {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Error::new(text)
    }
}

/// `.context("reading the leases")?`
pub trait Context<T> {
    fn context(self, what: impl Display) -> Result<T>;
    fn with_context<D: Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl Display) -> Result<T> {
        self.map_err(|error| error.into().context(what))
    }

    fn with_context<D: Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| error.into().context(what()))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, what: impl Display) -> Result<T> {
        self.ok_or_else(|| Error::new(what))
    }

    fn with_context<D: Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.ok_or_else(|| Error::new(what()))
    }
}
