//! What the parts of a plan are added to: steps with the field they come from, strings, and slots.

use crate::error::Error;
use crate::plan::Options;
use crate::slots::SlotSource;
use crate::text::Table;
use sampan_child::image::{self, Header};
use sampan_child::step::{Slot, Step, Text};
use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub struct Build {
    pub table: Table,
    pub steps: Vec<Step>,
    pub origins: Vec<String>,
    pub slots: Vec<SlotSource>,
    pub warnings: Vec<String>,
    pub clone_flags: u64,
}

impl Build {
    /// With the slots that every child has.
    pub fn for_child(options: &Options) -> Build {
        let mut b = Build::default();
        b.slot(SlotSource::Report);
        if options.trace {
            b.slot(SlotSource::Trace);
        }
        b
    }

    /// `field` is the config field to name when the step fails; empty for steps of our own.
    pub fn step(&mut self, field: impl Into<String>, step: Step) {
        self.steps.push(step);
        self.origins.push(field.into());
    }

    pub fn slot(&mut self, source: SlotSource) -> Slot {
        let known = self.slots.iter().position(|w| *w == source);
        let index = known.unwrap_or_else(|| {
            self.slots.push(source);
            self.slots.len() - 1
        });
        Slot(index as u32)
    }

    pub fn text(&mut self, text: &str, field: &str) -> Result<Text, Error> {
        self.table.add(text, field)
    }

    /// Writes into each step that closes descriptors which ones stay open: those that a later step uses, and the report's.
    fn keep_what_is_used_later(&mut self) {
        let mut used: BTreeSet<u32> = self
            .slots
            .iter()
            .position(|source| *source == SlotSource::Report)
            .map(|i| i as u32)
            .into_iter()
            .collect();
        for step in self.steps.iter_mut().rev() {
            if let Step::Close { keep, .. } | Step::Pivot { keep, .. } | Step::Join { keep, .. } = step {
                *keep = self.table.numbers(used.iter().copied());
            }
            // The spawner's own: done before there is a child.
            if !matches!(step, Step::Enter { .. }) {
                used.extend(step.slots().map(|slot| slot.0));
            }
        }
    }

    /// The flat image.
    pub fn image(&mut self) -> Vec<u8> {
        self.keep_what_is_used_later();
        let slot = |source: &SlotSource| {
            self.slots.iter().position(|w| w == source).map_or(Slot::NONE, |i| Slot(i as u32))
        };
        let text = std::mem::take(&mut self.table).finish();
        let header = Header {
            clone_flags: self.clone_flags,
            cgroup: slot(&SlotSource::Group),
            report: slot(&SlotSource::Report),
            trace: slot(&SlotSource::Trace),
            slots: self.slots.len() as u32,
            steps: self.steps.len() as u32,
            text: text.len() as u32,
        };
        let mut bytes = Vec::with_capacity(image::HEADER * 4 + self.steps.len() * image::STEP + text.len());
        bytes.extend(header.encode().iter().flat_map(|w| w.to_le_bytes()));
        bytes.extend(self.steps.iter().flat_map(|s| s.encode()).flat_map(u32::to_le_bytes));
        bytes.extend_from_slice(&text);
        bytes
    }
}
