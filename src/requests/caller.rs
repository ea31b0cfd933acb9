//! The sender of a request, as far as its connection identifies it. It goes into the log with the request.

use crate::proto::log;
use std::sync::Arc;

/// Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The common name of the client's verified certificate.
    pub certificate_name: Option<Arc<str>>,
}

impl Caller {
    /// The form that a command carries; none if nothing is known.
    pub(crate) fn to_wire(&self) -> Option<Box<log::Caller>> {
        let certificate_name = self.certificate_name.as_deref()?;
        Some(Box::new(log::Caller {
            certificate_name: certificate_name.to_owned(),
            ..log::Caller::default()
        }))
    }
}
