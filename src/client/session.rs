//! The actor that keeps one connection for a client: it picks the endpoint, connects, and switches when a failure is reported.
//!
//! Requests do not pass through it. They use the connection in [`Shared`] and come here only when there is none, or to report
//! that it failed. All waiting requests share one attempt. Attempts continue while there are waiting requests.

use super::connection::{Channel, ChannelOptions, ConnectError};
use super::endpoint::Endpoint;
use super::rotation::Rotation;
use crate::env;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A connection to one of the endpoints.
#[derive(Debug)]
pub struct Connection {
    pub channel: Channel,
    pub endpoint: Endpoint,
    /// The number of this connection, which grows by one with each.
    pub generation: u64,
}

/// State that requests read without asking the actor.
#[derive(Debug, Default)]
pub struct Shared {
    current: ArcSwapOption<Connection>,
    last_error: ArcSwapOption<ConnectError>,
}

impl Shared {
    /// The connection, unless there is none or it is known to be closed.
    pub fn current(&self) -> Option<Arc<Connection>> {
        let connection = self.current.load_full()?;
        (!connection.channel.is_closed()).then_some(connection)
    }

    /// Why the last attempt to connect failed.
    pub fn last_error(&self) -> String {
        match self.last_error.load().as_ref() {
            Some(error) => error.to_string(),
            None => "no connection".to_owned(),
        }
    }
}

/// Requests a connection, which arrives on `reply` once there is one. A caller that stops waiting drops the receiver.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Connect {
    pub reply: oneshot::Sender<Arc<Connection>>,
}

/// The connection with this generation no longer replies: use another endpoint.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Failed(pub u64);

/// Keeps one connection to one of the endpoints.
pub struct ClientSession {
    endpoints: Vec<Endpoint>,
    options: ChannelOptions,
    rotation: Rotation,
    generation: u64,
    connecting: bool,
    waiters: Vec<oneshot::Sender<Arc<Connection>>>,
    shared: Arc<Shared>,
}

impl ClientSession {
    /// Begins at a random endpoint, so that many clients spread over the members.
    pub fn new(endpoints: Vec<Endpoint>, options: ChannelOptions, shared: Arc<Shared>) -> Self {
        let rotation = Rotation::new(endpoints.len(), env::random_u64());
        Self {
            endpoints,
            options,
            rotation,
            generation: 0,
            connecting: false,
            waiters: Vec::new(),
            shared,
        }
    }

    /// Starts the next attempt, if requests still wait.
    fn attempt(&mut self, context: &mut Context<Self>) {
        self.waiters.retain(|waiter| !waiter.is_closed());
        self.connecting = !self.waiters.is_empty();
        if !self.connecting {
            return;
        }
        let endpoint = self.endpoints[self.rotation.position()].clone();
        let delay = self.rotation.delay(env::random_u64());
        let mut options = self.options.clone();
        let connect = async move {
            if !delay.is_zero() {
                env::sleep(delay).await;
            }
            let channel = match endpoint.connector(options.tls.as_ref()) {
                Ok(tls) => {
                    options.tls = tls;
                    Channel::connect_with(endpoint.address(), endpoint.authority(), &options).await
                }
                Err(error) => Err(error.into()),
            };
            (endpoint, channel)
        };
        context.spawn(
            connect
                .into_actor(self)
                .map(|(endpoint, channel), session, context| {
                    session.attempted(endpoint, channel, context);
                }),
        );
    }

    fn attempted(
        &mut self,
        endpoint: Endpoint,
        channel: Result<Channel, ConnectError>,
        context: &mut Context<Self>,
    ) {
        match channel {
            Ok(channel) => {
                tracing::debug!(%endpoint, "connected");
                self.rotation.connected();
                self.generation += 1;
                self.connecting = false;
                let connection = Arc::new(Connection {
                    channel,
                    endpoint,
                    generation: self.generation,
                });
                self.shared.current.store(Some(Arc::clone(&connection)));
                for waiter in self.waiters.drain(..) {
                    let _ = waiter.send(Arc::clone(&connection)); // it may have stopped waiting
                }
            }
            Err(error) => {
                tracing::debug!(%endpoint, %error, "not connected");
                self.shared.last_error.store(Some(Arc::new(error)));
                self.rotation.connect_failed();
                self.attempt(context);
            }
        }
    }
}

impl Actor for ClientSession {
    type Context = Context<Self>;
}

impl Handler<Connect> for ClientSession {
    type Result = ();

    fn handle(&mut self, message: Connect, context: &mut Context<Self>) {
        if let Some(connection) = self.shared.current() {
            let _ = message.reply.send(connection); // it may have stopped waiting
            return;
        }
        self.waiters.push(message.reply);
        if !self.connecting {
            self.attempt(context);
        }
    }
}

impl Handler<Failed> for ClientSession {
    type Result = ();

    fn handle(&mut self, Failed(generation): Failed, _: &mut Context<Self>) {
        // Many requests report the same failure: only the first one counts.
        let reported = |connection: &Arc<Connection>| connection.generation == generation;
        if self.shared.current.load().as_ref().is_some_and(reported) {
            self.shared.current.store(None);
            self.rotation.move_on();
        }
    }
}
