//! `usher run`: runs a job until a signal stops it.
//!
//! In this order, so that no change is committed twice: read the job, bind the API's port, check that the sources are there,
//! claim the state, open the syncs (which fences an earlier run that still sends) and read their ledgers, open the sources, start
//! the workers. The sources are opened last because a start goes live when it has read what they held then: an earlier run may
//! have committed what came in up to the moment at which it was fenced.

use super::diff;
use crate::api::Bound;
use crate::exit::Exit;
use crate::foresee::RunningJob;
use crate::open::{self, Loaded, WallClock, load_to_run};
use crate::schemas;
use crate::supervise::{self, Ending, Signals};
use crate::terminal::print_stderr;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use usher_config::{Delivery, SyncTo};
use usher_core::clock::Clock;
use usher_core::ledger::{Ledger, LedgerAudience};
use usher_core::sink::Sink;
use usher_core::store::Store;
use usher_dataflow::{Cluster, OpenedJob, Peers, Purpose, Recovery, Span};

/// The flags of `run`.
pub struct Flags {
    pub workers: usize,
    pub processes: usize,
    pub process: usize,
    pub hosts: Option<PathBuf>,
    pub restart_sources: bool,
    /// Syncs that were removed, whose waiting changes are dropped.
    pub drop_syncs: Vec<String>,
    pub clock_from_now: bool,
}

/// Runs a job.
pub fn run(path: &Path, flags: &Flags) -> Result<(), Exit> {
    let signals = Signals::handle()?;
    let (loaded, schemas) = load_to_run(path)?;
    open::print_warnings(&loaded.plan, path);
    // Before anything is taken over from an earlier run: one that is still running has the port.
    let api = Bound::of(&loaded.plan, flags.process, flags.processes)?;
    let (cluster, hosts) = cluster(&loaded, flags)?;
    if cluster.is_some() {
        signals.have_met_others();
    }
    let serve = |api: Bound| {
        let differ = Arc::new(RunningJob::of(&loaded)?);
        api.serve(&loaded.plan, flags.workers, (flags.process, &hosts), Some(differ))
    };
    let api = api.map(serve).transpose()?;
    // Before anything is created for the syncs.
    open::check_sources(&loaded)?;
    let warehouses = open::open_warehouses(&loaded)?;
    let dead_letters = open::open_dead_letters(&loaded, path)?;
    let state = open::open_state(&loaded, flags.process)?;
    let incarnation = open::incarnation();
    let first = flags.process == 0;
    // Only the first process claims the state and writes to syncs.
    let mut claim =
        first.then(|| usher_dataflow::claim(&*state.store, &loaded.plan.job.name, incarnation)).transpose()?;
    let noted = claim.as_ref().map(|(_, manifest)| usher_dataflow::noted_positions(manifest)).transpose();
    let noted = noted.map_err(usher_dataflow::ClaimError::from)?.unwrap_or_default();
    let mut ledgers = Vec::new();
    let mut starts = Vec::new();
    let mut moved = BTreeMap::new();
    if first {
        open::settle_removed_syncs(&loaded, &state, &flags.drop_syncs)?;
        for (index, id) in loaded.plan.job.syncs.keys().enumerate() {
            let opened = open::open_sync(&loaded, index, id, &state.ledger, incarnation, noted.get(id))?;
            if noted
                .get(id)
                .is_some_and(|noted| (&noted.keeper, &noted.place) != (&opened.position.keeper, &opened.position.place))
            {
                moved.insert(id.clone(), opened.position);
            }
            ledgers.push(opened.ledger);
            starts.push(opened.start);
        }
    }
    // Before anything is committed there, so that a start which is killed takes over the same again.
    if let Some(claimed) = claim.take_if(|_| !moved.is_empty()) {
        claim = Some(usher_dataflow::note_moved(&*state.store, claimed, &moved)?);
    }
    let catalog = Arc::new(loaded.plan.job.catalog().with_removed(&audiences(&ledgers)));
    let sinks: Vec<Box<dyn Sink>> = starts.into_iter().map(|start| start(Arc::clone(&catalog))).collect();
    if let Some((_, manifest)) = &claim {
        schemas::keep(&state.store, &loaded.plan.job, &schemas)?;
        announce(&loaded, &state);
        diff::announce(&usher_dataflow::job_before(manifest).map_err(usher_dataflow::ClaimError::from)?, &loaded.plan);
    }
    let sources = open::open_sources(&loaded, None, WallClock.now(), Some(&state.store))?;
    let opened = OpenedJob {
        recovery: Some(Recovery {
            store: state.store as Arc<dyn Store>,
            incarnation,
            claim,
            ledgers,
            checkpoint_every: state.checkpoint_every,
            restart_sources: flags.restart_sources,
            clock_from_now: flags.clock_from_now,
            purpose: Purpose::Run,
        }),
        api: api.as_ref().map(|api| Arc::clone(&api.api)),
        plan: loaded.plan,
        span: Span::Live,
        clock: Arc::new(WallClock),
        sources,
        warehouses,
        sinks,
        catalog,
        cluster,
        dead_letters,
        workers: flags.workers,
        cores: open::cores(),
    };
    let ended = supervise::run(opened, Ending::WhenStopped, &signals);
    if let Some(api) = api {
        api.stop();
    }
    ended?.result
}

/// Prints what the job file does not show.
fn announce(loaded: &Loaded, state: &open::State) {
    let job = &loaded.plan.job;
    if job.syncs.is_empty() {
        print_stderr("the job has no syncs: changes are counted but not sent");
    }
    let hint = if job.state.is_none() { "; `state.url` sets another place" } else { "" };
    print_stderr(format_args!("state is kept in `{}`{hint}", state.shown()));
    for (id, sync) in &job.syncs {
        match &sync.to {
            SyncTo::Stdout => {
                print_stderr(format_args!("sync `{id}` may print changes again after a crash, with the same ids"))
            }
            SyncTo::Kafka(target) if target.delivery == Delivery::AtLeastOnce => {
                print_stderr(format_args!(
                    "sync `{id}` may send changes again after a crash (`delivery` is at_least_once), with the same ids"
                ));
            }
            SyncTo::Kafka(_) | SyncTo::File(_) | SyncTo::Webhook(_) => {}
        }
    }
}

/// Returns all audiences in the ledgers.
pub fn audiences(ledgers: &[Ledger]) -> Vec<LedgerAudience> {
    let mut audiences: Vec<LedgerAudience> =
        ledgers.iter().flat_map(|ledger| ledger.audiences.iter().cloned()).collect();
    audiences.sort();
    audiences.dedup_by(|a, b| (&a.id, &a.model) == (&b.id, &b.model));
    audiences
}

/// Connects to the other processes, if there are any; returns the cluster and the host of each process.
fn cluster(loaded: &Loaded, flags: &Flags) -> Result<(Option<Cluster>, Vec<String>), Exit> {
    if flags.process >= flags.processes {
        return Err(Exit::wrong(format_args!("-p {} is out of range for -n {}", flags.process, flags.processes))
            .hint("processes are numbered from 0".to_owned()));
    }
    if flags.processes == 1 {
        return Ok((None, vec!["localhost".to_owned()]));
    }
    let addresses = match &flags.hosts {
        Some(path) => hosts(path, flags.processes)?,
        None => (0..flags.processes).map(|process| format!("localhost:{}", 2101 + process)).collect(),
    };
    let host = |address: &String| address.rsplit_once(':').map_or(&address[..], |(host, _)| host).to_owned();
    let names = addresses.iter().map(host).collect();
    let job = &loaded.plan.job;
    let peers = Peers {
        addresses,
        process: flags.process,
        threads: flags.workers,
        job: usher_queries::plan_file::encode(&loaded.plan),
    };
    let connect_timeout = Duration::from_millis(job.cluster.connect_timeout);
    let peer_timeout = Duration::from_millis(job.cluster.peer_timeout);
    let cluster = usher_dataflow::connect(&peers, connect_timeout, peer_timeout)?;
    Ok((Some(cluster), names))
}

/// Reads a host file: one `host:port` per line.
fn hosts(path: &Path, processes: usize) -> Result<Vec<String>, Exit> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Exit::wrong(format_args!("the host file `{}` can't be read: {error}", path.display())))?;
    let lines: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).take(processes).map(str::to_owned).collect();
    if lines.len() < processes {
        return Err(Exit::wrong(format_args!(
            "the host file `{}` has {} addresses, but -n is {processes}",
            path.display(),
            lines.len()
        ))
        .hint("give one `host:port` per line, the first for process 0".to_owned()));
    }
    Ok(lines)
}
