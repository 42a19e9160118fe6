//! A model of leases and ownership.
