//! .
pub mod log;
