//! Threads that read the index, so that no caller's thread waits for the disk.

use crate::index::read::Reader;
use crate::shared::lock;
use coretex_ports::{BoxFuture, StoreError};
use futures::channel::oneshot;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Reads that may wait; the next one is refused.
const QUEUE_MAX: usize = 4_096;

type Task = Box<dyn FnOnce(&mut Reader) + Send>;

pub(crate) struct Readers {
    /// None once stopped.
    tasks: Mutex<Option<SyncSender<Task>>>,
}

// === impl Readers ===

impl Readers {
    pub(crate) fn start(readers: Vec<Reader>) -> std::io::Result<(Readers, Vec<JoinHandle<()>>)> {
        let (tasks, inbox) = sync_channel(QUEUE_MAX);
        let inbox = Arc::new(Mutex::new(inbox));
        let mut threads = Vec::new();
        for (n, reader) in readers.into_iter().enumerate() {
            let inbox = inbox.clone();
            let name = format!("store-read-{n}");
            threads.push(std::thread::Builder::new().name(name).spawn(move || work(reader, &inbox))?);
        }
        Ok((Readers { tasks: Mutex::new(Some(tasks)) }, threads))
    }

    /// Lets the threads end once they have done what waits.
    pub(crate) fn stop(&self) {
        lock(&self.tasks).take();
    }

    /// Runs `task` on a reader thread.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<Result<T, StoreError>> {
        let (reply, answer) = oneshot::channel();
        let task: Task = Box::new(move |reader| drop(reply.send(task(reader))));
        let refusal = match lock(&self.tasks).as_ref().map(|tasks| tasks.try_send(task)) {
            Some(Ok(())) => None,
            Some(Err(TrySendError::Full(_))) => {
                Some(StoreError::Unavailable("too many reads are waiting; try again".into()))
            }
            Some(Err(TrySendError::Disconnected(_))) | None => {
                Some(StoreError::Unavailable("the store is closed".into()))
            }
        };
        Box::pin(async move {
            if let Some(refusal) = refusal {
                return Err(refusal);
            }
            let gone = |_| Err(StoreError::Unavailable("the read was given up".into()));
            answer.await.unwrap_or_else(gone)
        })
    }
}

fn work(mut reader: Reader, inbox: &Mutex<Receiver<Task>>) {
    loop {
        let task = lock(inbox).recv();
        match task {
            Ok(task) => task(&mut reader),
            Err(_) => return,
        }
    }
}
