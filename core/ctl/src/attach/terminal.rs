//! Our own terminal, while what is typed on it is another one's.
use crate::client::Error;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use sampan_api::attach::Window;

/// Nothing of what is typed is for us. Dropped, it is as it was.
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// None: standard input is no terminal.
    pub fn new() -> Result<Option<Raw>, Error> {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) {
            return Ok(None);
        }
        let failed = |errno| Error::Here(format!("cannot use this terminal: {errno}"));
        let before = tcgetattr(stdin).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Some(Raw { before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &self.before);
    }
}

/// None: we have none.
pub fn size() -> Option<Window> {
    let ours = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let size = ours.into_iter().find_map(|fd| tcgetwinsize(fd).ok())?;
    Some(Window { rows: size.ws_row, columns: size.ws_col })
}
