//! What clients do to a member, by mistake or on purpose, and what other clients notice of it. Each test is bounded in
//! time and number, states what a member's memory may grow by, and has another client put and get meanwhile.
#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods)] // the tests live in the real world

#[path = "../support/mod.rs"]
mod support;

mod waiting;
