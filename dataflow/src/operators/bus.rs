//! Bus: letters between workers, beside the data.
//!
//! Promises: letters from one worker to another arrive in the order in which they were posted. They have no time and hold
//! none back. Holds what was posted and not sent, and what arrived and was not taken. Workers post and take between steps,
//! until the dataflow is dropped.

use crate::letters::Letter;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::{Operator, OutputBuilder};
use timely::scheduling::{Activator, SyncActivator};

/// A letter on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Posted {
    to: u32,
    letter: Letter,
}

/// A worker's end of the bus.
pub(crate) struct Bus {
    peers: u32,
    posted: Rc<RefCell<VecDeque<Posted>>>,
    arrived: Rc<RefCell<VecDeque<Letter>>>,
    activator: Activator,
    wake: SyncActivator,
}

impl Bus {
    /// Builds the two operators of it.
    pub(crate) fn new(scope: Scope<'_, Time>) -> Bus {
        let peers = scope.peers() as u32;
        let posted = Rc::new(RefCell::new(VecDeque::new()));
        let arrived = Rc::new(RefCell::new(VecDeque::new()));
        let mut builder = OperatorBuilder::new("Post".to_owned(), scope);
        let activator = scope.activator_for(Rc::clone(&builder.operator_info().address));
        let wake = scope.worker().sync_activator_for(builder.operator_info().address.to_vec());
        let (output, stream) = builder.new_output::<Vec<Posted>>();
        let mut output = OutputBuilder::<Time, CapacityContainerBuilder<Vec<Posted>>>::from(output);
        builder.build_reschedule({
            let posted = Rc::clone(&posted);
            move |mut capabilities| {
                let hold = capabilities.pop().expect("an operator starts with a capability for each output");
                move |_frontiers| {
                    let mut output = output.activate();
                    output.session(&hold).give_iterator(posted.borrow_mut().drain(..));
                    false
                }
            }
        });
        let pact = Exchange::new(|posted: &Posted| u64::from(posted.to));
        stream.unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(pact, "Letterbox", {
            let arrived = Rc::clone(&arrived);
            move |_, _| {
                move |input, _output| {
                    input.for_each_stamp(|_, data| {
                        let letters = data.flat_map(|data| data.drain(..));
                        arrived.borrow_mut().extend(letters.map(|posted| posted.letter));
                    });
                }
            }
        });
        Bus { peers, posted, arrived, activator, wake }
    }

    /// How many workers there are.
    pub(crate) fn peers(&self) -> u32 {
        self.peers
    }

    /// What wakes this worker from another thread.
    pub(crate) fn sync_activator(&self) -> SyncActivator {
        self.wake.clone()
    }

    /// Sends a letter to a worker.
    pub(crate) fn post(&self, to: u32, letter: Letter) {
        self.posted.borrow_mut().push_back(Posted { to, letter });
        self.activator.activate();
    }

    /// Sends a letter to every worker, oneself too.
    pub(crate) fn post_to_all(&self, letter: &Letter) {
        (0..self.peers).for_each(|worker| self.post(worker, letter.clone()));
    }

    /// The next letter that has arrived.
    pub(crate) fn take(&self) -> Option<Letter> {
        self.arrived.borrow_mut().pop_front()
    }
}
