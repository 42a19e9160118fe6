//! The gateway as its callers see it: a whole server on a free port, called over the wire.

mod access;
mod approvals;
mod asks;
mod audit;
mod changes;
mod config;
mod dlq;
mod house;
mod jobs;
mod keys;
mod limits;
mod namespaces;
mod running_server;
mod runs;
mod safety;
mod spawns;
mod streams;
mod tenants;
mod tls;
mod transport;
mod workers;
mod workflows;
