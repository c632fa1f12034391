//! The API of a job that runs: opened before anything else is, stopped after everything else has.

use crate::exit::Exit;
use crate::job::{WallClock, variable};
use crate::terminal::say;
use std::net::TcpListener;
use std::sync::Arc;
use usher_connectors::serve::{Options, Server, bind};
use usher_dataflow::{Clock, EngineSetup, JobEngine};
use usher_queries::plan::Plan;

/// An API whose port is taken.
pub struct Bound {
    listener: TcpListener,
    options: Options,
}

/// An API that answers.
pub struct Serving {
    server: Server,
    pub engine: Arc<JobEngine>,
}

impl Bound {
    /// Takes the port of a job's API, if it has one, for `process` of `processes`.
    pub fn of(plan: &Plan, process: usize, processes: usize) -> Result<Option<Bound>, Exit> {
        let Some(api) = &plan.job.api else { return Ok(None) };
        if processes > 1 && api.listen.ends_with(":0") {
            return Err(Exit::wrong("`api.listen` has port 0, and other processes could not know which one it is")
                .hint("give a port: process p listens on it plus p".to_owned()));
        }
        let options = Options::of(api, &variable)?;
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
        let engine = Arc::new(JobEngine::new(plan, EngineSetup { clock, workers, process, addresses, run }));
        let server = Server::start(self.options, engine.published(), Arc::clone(&engine) as Arc<_>, self.listener)?;
        say(format_args!("api on http://{}", server.address()));
        Ok(Serving { server, engine })
    }
}

impl Serving {
    /// Finishes the requests in hand, and ends.
    pub fn stop(self) {
        self.server.stop();
    }
}
