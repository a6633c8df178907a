//! What services share: volumes, secrets, networks.
use crate::args::{NetworkVerb, SecretVerb, VolumeVerb};
use crate::ask::{Ask, DONE, FAILED, complain, out};
use crate::client::{self, Error};
use crate::print;
use sampan_api as api;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub fn volume(ask: &Ask<'_>, verb: &VolumeVerb) -> Result<u8, Error> {
    match verb {
        VolumeVerb::Ls => {
            let all: Vec<api::Volume> = ask.get("/v1/volumes")?;
            let sizes: Vec<Option<u64>> = all.iter().map(|volume| size(Path::new(&volume.path))).collect();
            if !ask.wants_values() {
                out(print::volumes(&all, &sizes).as_bytes())?;
                return Ok(DONE);
            }
            let with_size = |(volume, size): (&api::Volume, &Option<u64>)| {
                let mut value = serde_json::json!(volume);
                value["size_bytes"] = serde_json::json!(size);
                value
            };
            let all: Vec<_> = all.iter().zip(&sizes).map(with_size).collect();
            ask.value(&all.into())?;
            Ok(DONE)
        }
        VolumeVerb::Rm { volumes } => {
            let mut code = DONE;
            for name in volumes {
                let path = format!("/v1/volumes/{}", client::quoted(name));
                let print = |volume: &api::Volume| format!("{}\n", volume.name);
                match ask.show::<api::Volume>("DELETE", &path, None, print) {
                    Err(Error::Refused(failure)) => {
                        complain(&Error::Refused(failure).to_string());
                        code = FAILED;
                    }
                    answer => drop(answer?),
                }
            }
            Ok(code)
        }
    }
}

/// What a folder and all in it take on the disk, as du(1) counts it: a file of several names once, no other file system. None: it is not
/// there, or we may not look into all of it.
fn size(path: &Path) -> Option<u64> {
    const BLOCK: u64 = 512;
    let top = fs::symlink_metadata(path).ok()?;
    let (mut sum, mut seen, mut todo) = (0_u64, BTreeSet::new(), vec![path.to_owned()]);
    while let Some(folder) = todo.pop() {
        sum += fs::symlink_metadata(&folder).ok()?.blocks() * BLOCK;
        for entry in fs::read_dir(&folder).ok()? {
            // One that has gone meanwhile is of no size.
            let Some((entry, found)) = entry.ok().and_then(|e| e.metadata().ok().map(|found| (e, found)))
            else {
                continue;
            };
            if found.dev() != top.dev() {
                continue;
            }
            if found.is_dir() {
                todo.push(entry.path());
            } else if found.nlink() < 2 || seen.insert(found.ino()) {
                sum += found.blocks() * BLOCK;
            }
        }
    }
    Some(sum)
}

pub fn secret(ask: &Ask<'_>, verb: &SecretVerb) -> Result<(), Error> {
    match verb {
        SecretVerb::Ls => {
            ask.show("GET", "/v1/secrets", None, |all: &Vec<api::Secret>| print::secrets(all)).map(drop)
        }
    }
}

pub fn network(ask: &Ask<'_>, verb: &NetworkVerb) -> Result<(), Error> {
    match verb {
        NetworkVerb::Ls => {
            ask.show("GET", "/v1/networks", None, |all: &Vec<api::Network>| print::networks(all)).map(drop)
        }
        NetworkVerb::Inspect { networks } => {
            for name in networks {
                let path = format!("/v1/networks/{}", client::quoted(name));
                ask.value(&ask.get(&path)?)?;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::size;
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    #[test]
    fn a_size_is_what_du_says() {
        let owner = sampan_testkit::Folder::new();
        let folder = &owner.0;
        fs::create_dir_all(folder.join("in/ner")).unwrap();
        fs::write(folder.join("in/file"), vec![7; 100_000]).unwrap();
        fs::hard_link(folder.join("in/file"), folder.join("in/ner/again")).unwrap();
        std::os::unix::fs::symlink("/usr", folder.join("link")).unwrap();
        let du = Command::new("du").args(["-s", "-x", "--block-size=1"]).arg(folder).output().unwrap();
        let du = String::from_utf8(du.stdout).unwrap();
        let sum = size(folder);
        assert_eq!(sum.map(|sum| sum.to_string()).as_deref(), du.split('\t').next());
        assert_eq!(size(Path::new("/no/such/volume")), None);
    }
}
