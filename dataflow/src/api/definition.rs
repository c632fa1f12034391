//! What an audience is and how many keys meet its conditions, and what the job is.

use super::{Inner, WorkerRequest, not_live};
use crate::control::message::Counts;
use crate::time::Time;
use futures::channel::oneshot;
use std::sync::Arc;
use usher_core::api::{ApiError, CountedCondition, Definition, JobReport, Moment};
use usher_queries::conditions::Written;

impl Inner {
    /// Counts the keys that meet the conditions of an audience, worker by worker.
    pub(super) async fn definition(self: Arc<Inner>, id: String) -> Result<Definition, ApiError> {
        let (model, audience) = self.audience(&id);
        let number = self.index.catalog().index(&id).expect("the server asks for the job's audiences");
        let (mut keys, mut leaving): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
        let (mut as_of, mut counted_at) = (Time::MAX, Time::MAX);
        for worker in 0..(self.threads * self.addresses.len()) as u32 {
            let (answer, answered) = oneshot::channel();
            let asked = if self.is_here(worker) { worker as usize } else { 0 };
            self.ask(asked, WorkerRequest::Count { worker, audience: number, answer })?;
            let Counts { as_of: theirs, counted_at: counted, keys: met, leaving: leave } =
                answered.await.map_err(|_| not_live())?;
            if theirs == 0 {
                return Err(not_live());
            }
            (as_of, counted_at) = (as_of.min(theirs), counted_at.min(counted));
            for (sum, part) in [(&mut keys, met), (&mut leaving, leave)] {
                sum.resize(part.len(), 0);
                sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
        }
        let audience = &self.plan.models[model].audiences[audience];
        let of_syncs = self.plan.job.syncs.iter().filter(|(_, sync)| sync.audiences.contains(&id));
        let (_, place) = self.audience(&id);
        Ok(Definition {
            audience_name: audience.name.clone(),
            description: self.plan.job.audiences[&id].description.clone(),
            model: self.plan.models[model].id.clone(),
            syncs: of_syncs.map(|(sync, _)| sync.clone()).collect(),
            as_of: Moment(as_of),
            counted_at: Moment(counted_at),
            condition: counted(&self.written[model][place], &mut keys.into_iter()),
            leaving_by_minute: leaving,
            audience_id: id,
        })
    }

    pub(super) fn job(&self) -> JobReport {
        let (mut keys, mut checkpoints) = (0, Default::default());
        if let Some(status) = self.status.get() {
            (keys, checkpoints) = (status.keys(), status.checkpoints());
        }
        JobReport {
            job: self.plan.job.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: Moment(self.run),
            processes: self.addresses.len() as u32,
            workers: self.threads as u32,
            keys,
            state_bytes: checkpoints.bytes,
            checkpoints: checkpoints.made,
            checkpoint_ms: (checkpoints.made > 0).then_some(checkpoints.took.as_millis() as u64),
            plan: usher_queries::explain::explain(&self.plan, None).expect("no audience is asked for by its id"),
        }
    }
}

/// Returns a condition and those inside it with their counts, which are in that order.
fn counted(written: &Written, keys: &mut impl Iterator<Item = u64>) -> CountedCondition {
    CountedCondition {
        kind: written.kind.to_owned(),
        text: written.text.clone(),
        threshold: written.threshold.clone(),
        keys: keys.next().expect("there is a count for each condition"),
        conditions: written.inside.iter().map(|inside| counted(inside, keys)).collect(),
    }
}
