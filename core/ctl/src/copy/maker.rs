//! Who makes what is copied. What is mounted for the users of a container may know no other: the kernel refuses to make a file there, or to
//! rename one, for whoever is not among them, root of the host too (EOVERFLOW).
use super::tree::Owner;
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::thread::{CapabilitySets, capabilities, set_capabilities};

/// While `make` runs, this thread is to file systems who shall own what it makes. It may do there what it might before.
pub fn as_owner<T>(owner: Owner, make: impl FnOnce() -> T) -> T {
    let Owner::Is { uid, gid } = owner else { return make() };
    let _before = Before {
        rights: capabilities(None).ok(),
        gid: gid.map(|gid| setfsgid(Gid::from_raw(gid))),
        uid: uid.map(|uid| setfsuid(Uid::from_raw(uid))),
    };
    // Who is not root has lost those of files.
    if let Some(rights) = capabilities(None).ok().filter(|rights| rights.effective != rights.permitted) {
        let _ = set_capabilities(None, CapabilitySets { effective: rights.permitted, ..rights });
    }
    make()
}

/// Who it was. The calls tell no failure: whoever may not become another makes files as itself, and is told by the next call.
struct Before {
    rights: Option<CapabilitySets>,
    gid: Option<Gid>,
    uid: Option<Uid>,
}

impl Drop for Before {
    fn drop(&mut self) {
        self.uid.map(setfsuid);
        self.gid.map(setfsgid);
        if let Some(rights) = self.rights {
            let _ = set_capabilities(None, rights);
        }
    }
}
