//! The way to the server: dialling, opening streams, and when to try again.

use super::codec;
use super::outgoing::Writer;
use crate::client::{Client, ClientBuilder};
use crate::error::{Code, Error, Result, reason};
use crate::raw::{Identity, Wire, pb};
use crate::time::backoff;
use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Instant;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Frames = Streaming<pb::ConnectResponse>;

/// Where a worker's server is.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// Dialled anew for every stream.
    Addr(Box<ClientBuilder>),
    /// A channel made elsewhere.
    Channel(Channel),
}

pub(crate) enum LinkEvent {
    /// The way is there; open a stream on it.
    Dialled(Channel),
    Frame(Box<pb::ConnectResponse>),
    Broken(Error),
}

pub(crate) struct Link {
    target: Target,
    identity: Identity,
    state: State,
    /// The way to the next stream, while this one still serves.
    successor: Option<Pending<Result<Channel>>>,
    /// The stream before this one, until this one is greeted.
    retired: Option<Frames>,
    endpoints: Vec<String>,
    tries: u32,
}

enum State {
    Waiting(Instant),
    Dialling(Pending<Result<Channel>>),
    /// Dialled; the session has not opened a stream yet.
    Idle,
    Opening(Pending<Result<Frames, Status>>),
    Live(Box<Frames>),
}

// === impl Link ===

impl Link {
    pub(crate) fn new(client: &Client) -> Self {
        let shared = client.shared();
        let target = match shared.can_dial {
            true => Target::Addr(Box::new(shared.options.clone())),
            false => Target::Channel(shared.channel.clone()),
        };
        Self {
            target,
            identity: shared.identity.clone(),
            state: State::Waiting(Instant::now()),
            successor: None,
            retired: None,
            endpoints: Vec::new(),
            tries: 0,
        }
    }

    /// What happens next. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> LinkEvent {
        loop {
            match &mut self.state {
                State::Waiting(until) => {
                    tokio::time::sleep_until((*until).into()).await;
                    let own_turn = self.tries.is_multiple_of(2) || self.endpoints.is_empty();
                    let addr = match own_turn {
                        true => None,
                        false => self.endpoints.get(self.tries as usize / 2 % self.endpoints.len()).cloned(),
                    };
                    self.state = State::Dialling(dial(self.target.clone(), addr));
                }
                State::Dialling(dialling) => match dialling.await {
                    Ok(channel) => {
                        self.state = State::Idle;
                        return LinkEvent::Dialled(channel);
                    }
                    Err(error) => return LinkEvent::Broken(error),
                },
                State::Idle => pending().await,
                State::Opening(opening) => match opening.await {
                    Ok(frames) => self.state = State::Live(Box::new(frames)),
                    Err(status) => return LinkEvent::Broken(status.into()),
                },
                State::Live(frames) => {
                    let successor = async {
                        match &mut self.successor {
                            Some(dialling) => dialling.await,
                            None => pending().await,
                        }
                    };
                    tokio::select! {
                        biased;
                        frame = frames.message() => return match frame {
                            Ok(Some(frame)) => LinkEvent::Frame(Box::new(frame)),
                            Ok(None) => LinkEvent::Broken(ended()),
                            Err(status) => LinkEvent::Broken(status.into()),
                        },
                        dialled = successor => {
                            self.successor = None;
                            match dialled {
                                Ok(channel) => return LinkEvent::Dialled(channel),
                                Err(error) => tracing::warn!(%error, "cannot reach another node; staying"),
                            }
                        }
                    }
                }
            }
        }
    }

    /// Opens a stream. The one that served until now is kept until the new one is greeted.
    pub(crate) fn open(&mut self, channel: Channel, writer: Writer) {
        let opening = Box::pin(codec::connect(Wire::new(channel, self.identity.clone()), writer));
        if let State::Live(frames) = std::mem::replace(&mut self.state, State::Opening(opening)) {
            self.retired = Some(*frames);
        }
        self.successor = None;
    }

    /// The server greeted the stream.
    pub(crate) fn greeted(&mut self, endpoints: Vec<String>) {
        (self.tries, self.retired) = (0, None);
        if !endpoints.is_empty() {
            self.endpoints = endpoints;
        }
    }

    /// The stream is gone; try again after a while. Returns how long that is at least.
    pub(crate) fn broke(&mut self, hint: Option<std::time::Duration>) -> std::time::Duration {
        let wait = hint.unwrap_or_default() + backoff(self.tries);
        self.state = State::Waiting(Instant::now() + wait);
        (self.successor, self.retired) = (None, None);
        self.tries += 1;
        wait
    }

    /// Looks for another way after a while, and serves on here until then.
    pub(crate) fn move_on(&mut self, wait: std::time::Duration, endpoints: Vec<String>) {
        let addr = endpoints.first().cloned();
        if !endpoints.is_empty() {
            self.endpoints = endpoints;
        }
        let target = self.target.clone();
        self.successor = Some(Box::pin(async move {
            tokio::time::sleep(wait).await;
            match dial(target.clone(), addr.clone()).await {
                Err(error) if addr.is_some() => {
                    tracing::debug!(%error, "the preferred node does not answer");
                    dial(target, None).await
                }
                dialled => dialled,
            }
        }));
    }
}

fn dial(target: Target, addr: Option<String>) -> Pending<Result<Channel>> {
    match target {
        Target::Channel(channel) => Box::pin(async move { Ok(channel) }),
        Target::Addr(builder) => Box::pin(async move {
            match addr {
                Some(addr) => builder.at(addr).dial().await,
                None => builder.dial().await,
            }
        }),
    }
}

/// A stream that ends is not the end of the session.
fn ended() -> Error {
    Error::new(Code::Unavailable, reason::CONNECTION_LOST, "the server ended the stream")
}
