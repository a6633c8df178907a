//! The text of a file that the config names or is.

use std::path::Path;

use sampan_runtime::kernel::trust::{self, Group};

const FILE_BYTES_MAX: u64 = 4 << 20;

/// A text file that may tell us what to do: nobody but a trusted owner may write it, it is UTF-8 and not huge. With it comes a
/// warning, or there is none.
pub fn read_text(path: &Path) -> Result<(String, Option<String>), String> {
    let (bytes, warning) =
        trust::read(path, Group::MayWriteIfPrivate, FILE_BYTES_MAX).map_err(|error| error.about(path))?;
    let text = String::from_utf8(bytes)
        .map_err(|e| format!("not UTF-8 at byte {}", e.utf8_error().valid_up_to()))?;
    Ok((text, warning.map(|warning| warning.to_string())))
}
