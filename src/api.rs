//! The API of a job that runs: opened before anything else is, stopped after everything else has.

use crate::exit::Exit;
use crate::job::{WallClock, variable};
use crate::terminal::say;
use std::net::TcpListener;
use std::num::NonZeroU32;
use std::sync::Arc;
use usher_core::clock::Clock;
use usher_dataflow::{ApiSetup, JobApi};
use usher_queries::plan::Plan;
use usher_serve::{Key, Options, ServeError, Server, bind};

/// An API whose port is taken.
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
    /// Takes the port of a job's API, if it has one, for `process` of `processes`.
    pub fn of(plan: &Plan, process: usize, processes: usize) -> Result<Option<Bound>, Exit> {
        let Some(api) = &plan.job.api else { return Ok(None) };
        if processes > 1 && api.listen.ends_with(":0") {
            return Err(Exit::wrong("`api.listen` has port 0, and other processes could not know which one it is")
                .hint("give a port: process p listens on it plus p".to_owned()));
        }
        let options = options(api)?;
        let process = u16::try_from(process)
            .map_err(|_| Exit::wrong(format_args!("there is no port for the API of process {process}")))?;
        Ok(Some(Bound { listener: bind(&api.listen, process)?, options }))
    }

    /// Takes a free port that only this machine reaches.
    pub fn local() -> Result<Bound, Exit> {
        Ok(Bound { listener: bind("127.0.0.1:0", 0)?, options: Options::default() })
    }

    /// Answers from now on. `hosts`: of each process, where it is.
    pub fn serve(self, plan: &Plan, workers: usize, process: usize, hosts: &[String]) -> Result<Serving, Exit> {
        let port = self.listener.local_addr().map_or(0, |address| address.port());
        // The ports of all are as far apart as their numbers.
        let address = |(other, host): (usize, &String)| format!("{host}:{}", usize::from(port) + other - process);
        let clock = Arc::new(WallClock);
        let run = clock.now();
        let addresses = hosts.iter().enumerate().map(address).collect();
        let job_api = Arc::new(JobApi::new(plan, ApiSetup { clock, workers, process, addresses, run }));
        let server = Server::start(self.options, job_api.index(), Arc::clone(&job_api) as Arc<_>, self.listener)?;
        say(format_args!("api on http://{}", server.address()));
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
        keys.push(Key { token, read: key.read, admin: key.admin });
    }
    Ok(Options { keys, rate_limit: api.rate_limit.and_then(NonZeroU32::new), ..Options::default() })
}

impl Serving {
    /// Finishes the requests in hand, and ends.
    pub fn stop(self) {
        self.server.stop();
    }
}
