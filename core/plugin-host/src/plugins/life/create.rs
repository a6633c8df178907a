//! `create`: each plugin's answer, and the spec that they are merged into.
//!
//! A life whose plugins all answer as they did for the life before has the same spec: then nothing is built, merged or encoded. A plugin
//! that has called its answer stable is not even asked, until another config or another worker comes.
use super::{Step, gives, kind};
use crate::call::{Message, Plugin};
use crate::containers::{Document, Memory, encode};
use crate::{Ctx, Failure, Plugins};
use sampan_plugin::abi;
use sampan_plugin::merge::Merge;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What came of `create`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Created {
    /// Claim (`stdio`) -> plugin.
    pub claims: BTreeMap<String, String>,
    /// Leaf -> plugin.
    pub owners: BTreeMap<String, String>,
    /// Plugin and what it has to say to the user.
    pub messages: Vec<(String, String)>,
    /// In the order up.
    answers: Vec<Answer>,
}

/// What one plugin said.
#[derive(Clone, Debug, PartialEq)]
struct Answer {
    slot: usize,
    /// None: it was not asked, or failed and was left out.
    json: Option<Box<[u8]>>,
    /// It says the same for the same config.
    is_stable: bool,
    /// Events of the life that it does without, a bit each.
    without: u64,
    /// It was not taken, and the life goes on without it.
    is_refused: bool,
}

/// What a life is made from, as plugins see it.
#[derive(Clone, Copy)]
struct Making<'m> {
    ctx: &'m Ctx,
    /// The service's table.
    table: &'m Document,
    needs: &'m [&'m str],
}

/// What decides between plugins.
#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    adjust: Value,
}

impl Making<'_> {
    fn message(&self) -> Message {
        let Making { ctx, table, .. } = self;
        // The table is encoded already.
        let mut body = Vec::with_capacity(table.len() + 40);
        body.extend_from_slice(br#"{"service":"#);
        body.extend_from_slice(table);
        body.extend_from_slice(format!(r#","attempt":{}}}"#, ctx.attempt).as_bytes());
        Message { body: body.into(), ..Message::of(abi::EV_CREATE, &Arc::new((*ctx).clone())) }
    }

    fn needs(&self, plugin: &Plugin) -> bool {
        gives(&plugin.library.manifest.claims, self.needs)
    }

    fn choice(&self) -> Value {
        serde_json::from_slice(self.table).map_or(Value::Null, |Choice { adjust }| adjust)
    }
}

impl Plugins {
    /// Before the bundle is written: plugins change `spec`. On a failure those that saw it have seen `detach` as well.
    ///
    /// `service` is the service's table of config.toml, resolved; `adjust` in it decides between plugins. A claim among `needs`
    /// is one that the service does not start without, if any plugin is installed that gives it.
    pub async fn create(
        &self,
        ctx: &Ctx,
        service: &Value,
        needs: &[&str],
        spec: &mut Value,
    ) -> Result<Created, Failure> {
        let making = Making { ctx, table: &encode(service), needs };
        self.begin(making, Some(spec))?;
        let created = self.merge(making, spec, Vec::new()).await;
        self.end(making, created, false).await
    }

    /// The same for a life with the table of the life before, of which `before` came, and whose spec would be the same but for
    /// plugins. None: they all answer as they did, so the spec is the one in the bundle. Else `build` makes it without them.
    pub async fn create_again<E: From<Failure>>(
        &self,
        ctx: &Ctx,
        table: &Document,
        needs: &[&str],
        before: &Created,
        build: impl AsyncFnOnce() -> Result<Value, E>,
    ) -> Result<Option<(Created, Value)>, E> {
        let making = Making { ctx, table, needs };
        self.begin(making, None)?;
        let answers = match self.ask_again(making, &before.answers).await {
            Ok(answers) => answers,
            Err(failure) => return Err(self.failed(ctx, failure).await.into()),
        };
        if answers == before.answers {
            self.end(making, Ok(before.clone()), true).await?;
            return Ok(None);
        }
        let mut spec = match build().await {
            Ok(spec) => spec,
            Err(error) => {
                self.detach(ctx, true).await;
                return Err(error);
            }
        };
        self.show(ctx, &spec);
        let created = self.merge(making, &mut spec, answers).await;
        Ok(Some((self.end(making, created, false).await?, spec)))
    }

    /// Whether `create_again` would find all these answers stable, and nobody who looks at what comes of them.
    pub fn asks_nobody(&self, service: &str, needs: &[&str], before: &Created) -> bool {
        let up = self.up(service);
        let is_stable = |(plugin, answer): (&&'static Plugin, &Answer)| {
            answer.slot == plugin.slot && answer.is_stable && !plugin.wants(abi::EV_REVIEW)
        };
        self.waiting_for(service, needs).is_none()
            && up.len() == before.answers.len()
            && up.iter().zip(&before.answers).all(is_stable)
    }

    /// The spec again, of which plugins have answered this.
    pub fn merged_again(&self, ctx: &Ctx, table: &Document, before: &Created, spec: &mut Value) {
        let mut merge = Merge::new(Some(&Making { ctx, table, needs: &[] }.choice()));
        for answer in before.answers.iter().filter(|answer| !answer.is_refused) {
            let plugin = self.open.iter().find(|plugin| plugin.slot == answer.slot);
            if let (Some(plugin), Some(json)) = (plugin, &answer.json) {
                // It was taken before.
                let _ = merge.take(spec, plugin.author(), json);
            }
        }
        self.show(ctx, spec);
    }

    fn begin(&self, making: Making<'_>, spec: Option<&Value>) -> Result<(), Failure> {
        let Making { ctx, table, needs } = making;
        if let Some(waiting) = self.waiting_for(&ctx.service, needs) {
            return Err(waiting);
        }
        let spec = spec.map(|spec| spec.to_string().into());
        self.world.containers().add(ctx, "creating", table.clone(), spec, Memory::default());
        Ok(())
    }

    /// Plugins that ask for it see the spec as it is so far.
    fn show(&self, ctx: &Ctx, spec: &Value) {
        if let Some(container) = self.world.containers().get_mut(ctx.handle) {
            container.spec = Some(spec.to_string().into());
        }
    }

    async fn end(
        &self,
        making: Making<'_>,
        created: Result<Created, Failure>,
        is_as_before: bool,
    ) -> Result<Created, Failure> {
        let ctx = making.ctx;
        let reviewed = match created {
            Ok(created) => self.review(ctx, &created).await.map(|()| created),
            Err(failure) => Err(failure),
        };
        match reviewed {
            Ok(created) => {
                let is_asked = {
                    let mut containers = self.world.containers();
                    if let Some(container) = containers.get_mut(ctx.handle) {
                        container.memory.claims = created.claims.clone();
                        container.memory.owners = created.owners.clone();
                        let spared = created.answers.iter().filter(|answer| answer.without != 0);
                        container.without = spared.map(|answer| (answer.slot, answer.without)).collect();
                    }
                    containers.remember(ctx.handle, is_as_before)
                };
                if is_asked {
                    self.world.write_down().await;
                }
                Ok(created)
            }
            Err(failure) => Err(self.failed(ctx, failure).await),
        }
    }

    async fn failed(&self, ctx: &Ctx, failure: Failure) -> Failure {
        self.detach(ctx, true).await;
        failure
    }

    /// Up to the first that answers something else than before, with that answer; after it those that are stable.
    async fn ask_again(&self, making: Making<'_>, before: &[Answer]) -> Result<Vec<Answer>, Failure> {
        let mut answers = Vec::with_capacity(before.len());
        let (mut message, mut is_other) = (None, false);
        for (n, plugin) in self.up(&making.ctx.service).into_iter().enumerate() {
            let known = before.get(n).filter(|known| known.slot == plugin.slot);
            let answer = match known {
                Some(known) if known.is_stable => {
                    self.has_seen(making, plugin);
                    known.clone()
                }
                _ if is_other => continue,
                _ => {
                    let message = message.get_or_insert_with(|| making.message());
                    self.answer(making, plugin, message.clone()).await?
                }
            };
            let stays = known.filter(|known| !known.is_refused && known.json == answer.json);
            is_other |= stays.is_none();
            answers.push(stays.cloned().unwrap_or(answer));
        }
        Ok(answers)
    }

    /// Whoever is not among the `given` answers is asked.
    async fn merge(
        &self,
        making: Making<'_>,
        spec: &mut Value,
        given: Vec<Answer>,
    ) -> Result<Created, Failure> {
        let mut created = Created::default();
        let mut merge = Merge::new(Some(&making.choice()));
        let message = making.message();
        for plugin in self.up(&making.ctx.service) {
            let mut answer = match given.iter().find(|answer| answer.slot == plugin.slot) {
                Some(answer) => answer.clone(),
                None => self.answer(making, plugin, message.clone()).await?,
            };
            match answer.json.as_ref().map(|json| merge.take(spec, plugin.author(), json)) {
                None => {}
                Some(Ok(taken)) => {
                    (answer.is_stable, answer.without) = (taken.is_stable, taken.without);
                    if !taken.message.is_empty() {
                        created.messages.push((plugin.name.clone(), taken.message));
                    }
                    if taken.changed {
                        self.show(making.ctx, spec);
                    }
                }
                Some(Err(refusal)) => {
                    answer.is_refused = true;
                    plugin.health().figures.errors += 1;
                    let step = Step { plugin, event: abi::EV_CREATE, needed: making.needs(plugin) };
                    self.verdict(step, kind(&refusal), refusal.to_string())?;
                }
            }
            created.answers.push(answer);
        }
        created.claims.clone_from(merge.claims());
        created.owners = merge.owners();
        Ok(created)
    }

    async fn answer(
        &self,
        making: Making<'_>,
        plugin: &'static Plugin,
        message: Message,
    ) -> Result<Answer, Failure> {
        self.has_seen(making, plugin);
        let reply = self.gate_of(plugin, message, making.needs(plugin)).await?;
        let json = reply.map(|(json, _)| json.into());
        Ok(Answer { slot: plugin.slot, json, is_stable: false, without: 0, is_refused: false })
    }

    /// From here on it is to see `detach`.
    fn has_seen(&self, making: Making<'_>, plugin: &Plugin) {
        if let Some(container) = self.world.containers().get_mut(making.ctx.handle) {
            container.saw.push(plugin.slot);
        }
    }

    /// All answers are merged: whoever looks at the result may refuse it.
    async fn review(&self, ctx: &Ctx, created: &Created) -> Result<(), Failure> {
        let plugins = self.up(&ctx.service).into_iter().filter(|plugin| plugin.wants(abi::EV_REVIEW));
        for plugin in plugins {
            let message = Message::of(abi::EV_REVIEW, &Arc::new(ctx.clone()));
            self.gate(plugin, message.body(&json!({ "owners": created.owners }))).await?;
        }
        Ok(())
    }
}
