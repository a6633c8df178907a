//! `names`, for shells that complete: what there is, a name a line. Whoever types waits for it, so an answer that does not come soon is
//! none, and nothing is said.
use crate::args::{Args, Kind};
use crate::ask::{Ask, out};
use crate::client::Error;
use sampan_api as api;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

const SOON: Duration = Duration::from_millis(500);

/// No error is worth a word.
pub fn print(args: &Args, kind: Kind) {
    let (send, found) = mpsc::channel();
    let socket = args.socket.clone();
    std::thread::spawn(move || {
        let names = of_kind(&socket, kind);
        let _ = send.send(names);
    });
    if let Ok(Ok(names)) = found.recv_timeout(SOON) {
        let _ = out(names.iter().map(|name| format!("{name}\n")).collect::<String>().as_bytes());
    }
}

fn of_kind(socket: &Path, kind: Kind) -> Result<Vec<String>, Error> {
    let args =
        Args { socket: socket.to_owned(), json: false, format: None, verb: crate::args::Verb::Version };
    let ask = Ask::new(&args);
    Ok(match kind {
        Kind::Services | Kind::All => {
            let all: Vec<api::Status> = ask.get("/v1/services")?;
            let named = all.into_iter().filter(|status| kind == Kind::All || status.one_off_of.is_none());
            named.map(|status| status.name).collect()
        }
        Kind::Volumes => {
            let all: Vec<api::Volume> = ask.get("/v1/volumes")?;
            all.into_iter().map(|volume| volume.name).collect()
        }
        Kind::Networks => {
            let all: Vec<api::Network> = ask.get("/v1/networks")?;
            all.into_iter().map(|network| network.name).collect()
        }
        Kind::Plugins => {
            let all: Vec<api::PluginStatus> = ask.get("/v1/plugins")?;
            all.into_iter().map(|plugin| plugin.name).collect()
        }
    })
}
