//! The composition root: builds one member's actors, connects them, starts and stops them.

mod announce;
pub mod backend;
pub mod checkpointer;
pub mod entrance;
pub mod member;
mod ports;
mod security;
mod threads;
