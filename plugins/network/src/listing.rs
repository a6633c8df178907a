//! What is in nf_tables already: elements of a set of ours, and what others change.

use crate::netlink::{Error, Result, Socket, dump_request};
use crate::nft::{DELCHAIN, DELRULE, DELSET, DELSETELEM, DELTABLE, INET, SUBSYSTEM, TABLE};
use crate::wire;

use nix::errno::Errno;

const GETSETELEM: u16 = SUBSYSTEM | 13;

/// The multicast group that says what changes in nf_tables.
pub const NOTIFICATIONS: u32 = 7;

/// nfgenmsg.
pub const FIXED: usize = 4;

/// Whether a notification says that something was taken out of `table`, by someone other than the socket `port`.
pub fn took_from(notice: &wire::Received<'_>, table: &str, port: u32) -> bool {
    matches!(notice.kind, DELTABLE | DELCHAIN | DELRULE | DELSET | DELSETELEM)
        && notice.port != port
        && text(wire::after(notice.body, FIXED), TABLE).as_deref() == Some(table)
}

/// The keys of a set whose keys are numbers of interfaces; none where there is no such set.
pub fn indexes(socket: &mut Socket, table: &str, set: &str) -> Result<Vec<u32>> {
    let request = dump_request(GETSETELEM, &[INET, 0, 0, 0]).text(TABLE, table).text(2, set);
    let found = socket.dump("cannot list a set of nf_tables", request, |body| {
        let elements = wire::attribute(wire::after(body, FIXED), 3)?;
        let key = |element| wire::u32_at(wire::attribute(wire::attribute(element, 1)?, 1)?, 0);
        Some(wire::attributes(elements).filter_map(|(_, element)| key(element)).collect::<Vec<u32>>())
    });
    match found {
        Err(Error { errno: Errno::ENOENT, .. }) => Ok(Vec::new()),
        found => Ok(found?.concat()),
    }
}

pub fn text(attributes: &[u8], kind: u16) -> Option<String> {
    wire::attribute(attributes, kind).map(wire::text)
}
