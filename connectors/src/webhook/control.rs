//! Orders to the thread of a webhook, from any other.

use tokio::sync::{mpsc, oneshot};
use usher_core::api::{ApiError, BoxFuture};
use usher_core::delivery::{Delivery, DeliveryOrder, DeliveryReply};

/// The answer to an order.
pub(super) type Answer = Result<DeliveryReply, ApiError>;

/// An order, and where its answer goes.
pub(crate) struct Command {
    pub(super) order: DeliveryOrder,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// The thread's orders, as they come.
pub(crate) type Commands = mpsc::UnboundedReceiver<Command>;

/// The thread, as others see it.
#[derive(Clone, Debug)]
pub(crate) struct Control(mpsc::UnboundedSender<Command>);

/// Returns both ends.
pub(crate) fn control() -> (Control, Commands) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Control(sender), receiver)
}

impl Delivery for Control {
    fn order(&self, order: DeliveryOrder) -> BoxFuture<'static, Answer> {
        let (answer, answered) = oneshot::channel();
        let sent = self.0.send(Command { order, answer });
        let stopped = || ApiError::Unavailable("the job stops".to_owned());
        Box::pin(async move {
            sent.map_err(|_| stopped())?;
            answered.await.map_err(|_| stopped())?
        })
    }
}
