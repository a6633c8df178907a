//! Services from images: one that is missing is got before the service's turn to start, and what an image says of the life that is
//! made of it holds for that life.
use super::Worker;
use crate::fleet::Fetch;
use crate::message::Message;
use crate::settings::{Event, Settings};
use sampan_bundle::image::Used;
use sampan_config::schema;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

impl Worker {
    /// Before its turn, so that it holds up nobody else's: whether the image is got first, or looked for.
    pub(super) fn fetch_image(&mut self, name: &str) -> bool {
        let Some(entry) = self.fleet.get_mut(name) else { return false };
        entry.no_image = None;
        let config = entry.machine.config().shared();
        let schema::Source::Image(image) = &config.source else { return false };
        if image.pull == schema::Pull::Never {
            return false;
        }
        let (image, number) = (image.clone(), self.next_handle);
        self.next_handle += 1;
        let (pulls, send, name) = (self.context.pulls.clone(), self.send.clone(), entry.name.clone());
        let how_far = Rc::new(RefCell::new(None));
        let (told, wanted) = (how_far.clone(), image.clone());
        let task = tokio::task::spawn_local(async move {
            let result = pulls.ensure(&wanted, |text| *told.borrow_mut() = Some(text)).await;
            let _ = send.send(Message::Fetched { name, number, result });
        });
        entry.fetch = Some(Fetch { number, image, how_far, _task: task.into() });
        true
    }

    /// The answer to `fetch_image`. That there is no image is the launch's failure: it is tried again like any other.
    pub(super) fn fetched(&mut self, name: &str, number: u64, result: Result<(), String>) {
        let Some(entry) = self.fleet.get_mut(name) else { return };
        let Some(fetch) = entry.fetch.take_if(|fetch| fetch.number == number) else { return };
        let is_another =
            !matches!(&entry.config().source, schema::Source::Image(image) if *image == fetch.image);
        if is_another && self.fetch_image(name) {
            return;
        }
        if let (false, Some(entry)) = (is_another, self.fleet.get_mut(name)) {
            entry.no_image = result.err();
        }
        self.request_start(name);
    }

    /// sampand ends, and nothing is started any more: no image is waited for.
    pub fn end_fetches(&mut self) {
        self.fleet.entries.values_mut().for_each(|entry| entry.fetch = None);
    }

    /// A life from an image has the image's stop signal and health check, where the service has none of its own.
    pub(super) fn led_by_its_image(&mut self, name: &str, image: Option<(Used, Arc<schema::Service>)>) {
        let Some(entry) = self.fleet.get_mut(name) else { return };
        let Some((used, led)) = image else {
            entry.image = None;
            return;
        };
        entry.image = Some(used);
        // Where another config is due, this life ends soon.
        if entry.machine.next_config().is_none() && *led != **entry.machine.config() {
            self.apply(name, &Event::Live(led.into()));
        }
    }

    /// A life that a worker before us has made: what its image said then.
    pub(super) fn led_as_before(&self, name: &str, config: &Settings) -> (Settings, Option<Used>) {
        let used = match config.source {
            schema::Source::Image(_) => Used::of(&self.context.spec_of(name)),
            schema::Source::Rootfs(_) | schema::Source::Bundle(_) => None,
        };
        let led = used.as_ref().and_then(|used| used.leads(config).ok());
        (led.map_or_else(|| config.clone(), Settings::from), used)
    }

    /// A config that is read while its life goes on.
    pub(super) fn led_under(&self, service: &Arc<schema::Service>) -> Settings {
        let used = self.fleet.get(&service.name).and_then(|entry| entry.image.as_ref());
        used.and_then(|used| used.leads(service).ok()).unwrap_or_else(|| service.clone()).into()
    }
}
