//! From flags and a data directory to a member's parts: the first start founds the member in a new cluster ([`founding`]) or joins
//! it to a running one ([`joining`]), every later one finds it again ([`opening`]), or
//! makes it a cluster of one ([`forcing`]). The initial-* flags count the first time
//! only, as with etcd.

mod engine_options;
mod error;
mod forcing;
mod founding;
mod joining;
mod opening;
mod owner;
mod running;

pub use engine_options::EngineOptions;
pub use error::StartError;
pub use founding::{Beginning, begin};
pub use opening::{OpenedMember, open};
