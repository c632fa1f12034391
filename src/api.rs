//! The API of a running job: opened before everything else, stopped after everything else.

use crate::exit::Exit;
use crate::open::{WallClock, variable};
use crate::terminal::print_stderr;
use crate::version;
use std::net::TcpListener;
use std::num::NonZeroU32;
use std::sync::Arc;
use usher_core::clock::Clock;
use usher_core::edit::Differ;
use usher_dataflow::{ApiSetup, JobApi};
use usher_queries::plan::Plan;
use usher_serve::{Console, Key, Options, ServeError, Server, bind};

/// An API that has its port and does not answer yet.
pub struct Bound {
    listener: TcpListener,
    options: Options,
}

/// An API that answers.
pub struct Serving {
    server: Server,
    pub api: Arc<JobApi>,
}

impl Bound {
    /// Binds the port of a job's API for `process` of `processes`; returns `None` if the job has no API.
    pub fn of(plan: &Plan, process: usize, processes: usize) -> Result<Option<Bound>, Exit> {
        let Some(api) = &plan.job.api else { return Ok(None) };
        if processes > 1 && api.listen.ends_with(":0") {
            return Err(Exit::wrong(
                "`api.listen` has port 0, which gives each process a port that the others can't find",
            )
            .hint("give a port: process p listens on it plus p".to_owned()));
        }
        let options = options(api)?;
        let process = u16::try_from(process)
            .map_err(|_| Exit::wrong(format_args!("there is no port for the API of process {process}")))?;
        Ok(Some(Bound { listener: bind(&api.listen, process)?, options }))
    }

    /// Binds a free port on loopback.
    pub fn local() -> Result<Bound, Exit> {
        Ok(Bound {
            listener: bind("127.0.0.1:0", 0)?,
            options: Options { build: version::build(), ..Options::default() },
        })
    }

    /// Starts to answer, as `process` of those with these hosts. `differ` works out edits; `None` if the job keeps no state.
    pub fn serve(
        self,
        plan: &Plan,
        workers: usize,
        (process, hosts): (usize, &[String]),
        differ: Option<Arc<dyn Differ>>,
    ) -> Result<Serving, Exit> {
        let port = self.listener.local_addr().map_or(0, |address| address.port());
        // Process p listens on the port of process 0 plus p.
        let address = |(other, host): (usize, &String)| format!("{host}:{}", usize::from(port) + other - process);
        let clock = Arc::new(WallClock);
        let run = clock.now();
        let addresses = hosts.iter().enumerate().map(address).collect();
        let job_api = Arc::new(JobApi::new(plan, ApiSetup { clock, workers, process, addresses, run, differ }));
        let console = self.options.console.is_some();
        let server = Server::start(self.options, job_api.index(), Arc::clone(&job_api) as Arc<_>, self.listener)?;
        print_stderr(format_args!("api on http://{}", server.address()));
        if console {
            print_stderr("its console: open this address in a browser");
        }
        Ok(Serving { server, api: job_api })
    }
}

/// Returns how a job serves its API: its keys, with the environment's values, and its rate limit.
fn options(api: &usher_config::Api) -> Result<Options, ServeError> {
    let mut keys = Vec::new();
    for (index, key) in api.keys.iter().enumerate() {
        let token = key.token.resolve(&variable).map_err(|reason| ServeError::Key { ix: index, reason })?;
        if token.is_empty() {
            return Err(ServeError::Key { ix: index, reason: "it is empty".to_owned() });
        }
        if let Some(other) = keys.iter().position(|known: &Key| known.token == token) {
            return Err(ServeError::Key { ix: index, reason: format!("`api.keys[{other}]` has the same") });
        }
        keys.push(Key { token, read: key.read, admin: key.admin });
    }
    let console = match api.console {
        usher_config::Console::Off => None,
        usher_config::Console::On { actions } => Some(Console { actions }),
    };
    let rate_limit = api.rate_limit.and_then(NonZeroU32::new);
    Ok(Options { keys, rate_limit, console, build: version::build(), ..Options::default() })
}

impl Serving {
    /// Finishes the requests in hand and ends.
    pub fn stop(self) {
        self.server.stop();
    }
}
