//! Schedules over the wire, on a clock that is moved.

mod bad_input;
mod changes;
mod faults;
mod kit;
mod restarts;
mod times;
