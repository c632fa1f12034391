//! Control: messages between workers, beside the data.
//!
//! Promises: messages from one worker to another arrive in the order in which they were sent. They carry no time and hold
//! none back. Holds what was sent and has not left, and what arrived and was not received. Workers send and receive between
//! two steps, until the dataflow is dropped.

use crate::control::message::ControlMessage;
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

/// A message and the worker that it goes to.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Addressed {
    to: u32,
    message: ControlMessage,
}

/// A worker's end of the channel.
pub(crate) struct ControlChannel {
    peers: u32,
    outgoing: Rc<RefCell<VecDeque<Addressed>>>,
    arrived: Rc<RefCell<VecDeque<ControlMessage>>>,
    activator: Activator,
    wake: SyncActivator,
}

impl ControlChannel {
    /// Builds the two operators of the channel.
    pub(crate) fn new(scope: Scope<'_, Time>) -> ControlChannel {
        let peers = scope.peers() as u32;
        let outgoing = Rc::new(RefCell::new(VecDeque::new()));
        let arrived = Rc::new(RefCell::new(VecDeque::new()));
        let mut builder = OperatorBuilder::new("ControlSend".to_owned(), scope);
        let activator = scope.activator_for(Rc::clone(&builder.operator_info().address));
        let wake = scope.worker().sync_activator_for(builder.operator_info().address.to_vec());
        let (output, stream) = builder.new_output::<Vec<Addressed>>();
        let mut output = OutputBuilder::<Time, CapacityContainerBuilder<Vec<Addressed>>>::from(output);
        builder.build_reschedule({
            let outgoing = Rc::clone(&outgoing);
            move |mut capabilities| {
                let hold = capabilities.pop().expect("an operator starts with a capability for each output");
                move |_frontiers| {
                    let mut output = output.activate();
                    output.session(&hold).give_iterator(outgoing.borrow_mut().drain(..));
                    false
                }
            }
        });
        let pact = Exchange::new(|addressed: &Addressed| u64::from(addressed.to));
        stream.unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(pact, "ControlReceive", {
            let arrived = Rc::clone(&arrived);
            move |_, _| {
                move |input, _output| {
                    input.for_each_stamp(|_, data| {
                        let addressed = data.flat_map(|data| data.drain(..));
                        arrived.borrow_mut().extend(addressed.map(|addressed| addressed.message));
                    });
                }
            }
        });
        ControlChannel { peers, outgoing, arrived, activator, wake }
    }

    /// Returns the number of workers.
    pub(crate) fn peers(&self) -> u32 {
        self.peers
    }

    /// Returns what wakes this worker from another thread.
    pub(crate) fn sync_activator(&self) -> SyncActivator {
        self.wake.clone()
    }

    /// Sends a message to a worker, which may be this one.
    pub(crate) fn send(&self, to: u32, message: ControlMessage) {
        self.outgoing.borrow_mut().push_back(Addressed { to, message });
        self.activator.activate();
    }

    /// Sends a message to every worker, this one included.
    pub(crate) fn broadcast(&self, message: &ControlMessage) {
        (0..self.peers).for_each(|worker| self.send(worker, message.clone()));
    }

    /// Returns the next message that has arrived.
    pub(crate) fn receive(&self) -> Option<ControlMessage> {
        self.arrived.borrow_mut().pop_front()
    }
}
