//! The services' output on sampand's own: one stream of all services from the plugin that keeps the logs, line by line to
//! the view. Not under systemd, whose journal is not meant to get everything twice, not into the file of a sampand in
//! the background, and not at log levels above info.
use crate::life::Context;
use crate::task::Task;
use crate::view::{Output, View};
use sampan_config::Config;
use sampan_config::schema::LogLevel;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

/// A line longer than this is cut: it is for eyes.
const LINE_MAX: usize = 16 * 1024;

pub fn wanted(config: &Config, view: &View) -> bool {
    if view.leads_to() == Output::File {
        return false;
    }
    let talks = matches!(config.supervisor.log_level, LogLevel::Info | LogLevel::Debug | LogLevel::Trace);
    talks && !sampan_systemd::notify::is_listened_to() && std::env::var_os("JOURNAL_STREAM").is_none()
}

/// Shows from now on. Without a plugin that keeps logs it says where the output is.
pub fn start(context: &Rc<Context>, view: &View) -> Task {
    let (context, view) = (context.clone(), view.clone());
    Task::from(tokio::task::spawn_local(async move {
        match context.read_logs(Vec::new(), true, Some(0)).await {
            Ok(stream) => {
                if let Err(error) = show(stream, &view).await {
                    tracing::warn!("the services' output is no longer shown here: {error}");
                }
            }
            Err(failure) => tracing::info!("{}", failure.error),
        }
    }))
}

async fn show(stream: OwnedFd, view: &View) -> std::io::Result<()> {
    rustix::io::ioctl_fionbio(&stream, true)?;
    let stream = crate::fence::readable(stream)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut rest: Vec<u8> = Vec::new();
    loop {
        let mut ready = stream.readable().await?;
        let read = ready.try_io(|fd| Ok(rustix::io::read(&**fd.get_ref(), &mut buffer[..])?));
        let count = match read {
            Err(_) => continue,
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(count)) => count,
            Ok(Err(error)) => return Err(error),
        };
        rest.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let mut from = 0;
        while let Some(length) = rest.iter().skip(from).position(|byte| *byte == b'\n') {
            show_line(rest.get(from..from + length).unwrap_or_default(), view);
            from += length + 1;
        }
        rest.drain(..from);
        if rest.len() > LINE_MAX {
            show_line(&rest, view);
            rest.clear();
        }
    }
}

/// `SERVICE TIME STREAM F|P TEXT`.
fn show_line(line: &[u8], view: &View) {
    let mut fields = line.splitn(5, |byte| *byte == b' ');
    let (Some(service), Some(_time), Some(stream), Some(_tag)) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return;
    };
    let text = fields.next().unwrap_or_default();
    let service: Arc<str> = String::from_utf8_lossy(service).into();
    view.output(service, stream == b"stderr", String::from_utf8_lossy(text).into_owned());
}
