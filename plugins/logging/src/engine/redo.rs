//! What the last worker was about to do when it died.
use std::io;
use std::sync::Arc;

use sampan_plugin::prelude::*;

use super::service::Service;
use super::{Places, Rings};
use crate::config::Driver;
use crate::notifier::Removed;
use crate::segments::Segments;
use crate::spool::{Spool, Transfer};
use crate::time;

/// A transfer that a crash interrupted, done again: same bytes, same time, same place. The journal may have some of it already.
pub(super) fn redo(
    places: &Places,
    spool: &mut Spool,
    rings: &Rings,
    removed: &Arc<Removed>,
) -> io::Result<()> {
    let Some(transfer) = spool.pending()? else { return Ok(()) };
    let Some((name, stream)) = spool.owner(transfer.slot) else { return spool.disarm(transfer.slot) };
    if let (Some(commit), Some(ring)) = (spool.ring_commit(), rings.get(&name)) {
        // Of what is in the spool now.
        ring.finish_taking(commit);
    }
    let (settings, dir) = (transfer.settings, places.dir.join(&name));
    let segments = match settings.driver {
        Driver::Journald => Ok(Segments::closed(&dir, settings.driver, removed)),
        driver => Segments::restore(&dir, driver, transfer.segment, transfer.bytes, removed),
    };
    let segments = segments.unwrap_or_else(|error| {
        let bytes = spool.data().len();
        tracing::error!(service = name, %error, bytes, "what was read last is dropped and counted: cannot go on with its segment");
        Segments::closed(&dir, settings.driver, removed)
    });
    let mut service = Service::new(name, Container::HOST, settings, segments, places.journal.clone());
    service.take_up(spool);
    let time = if transfer.time == 0 { time::now() } else { transfer.time };
    service.transfer(stream, spool, &mut Vec::new(), &Transfer { time, ..transfer })
}
