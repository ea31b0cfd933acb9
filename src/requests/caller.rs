//! Who has sent a request, as far as its connection tells. It goes along with the request into the log.

use crate::proto::log;
use std::sync::Arc;

/// Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The common name of the certificate that the client has shown and this member has verified.
    pub certificate_name: Option<Arc<str>>,
}

impl Caller {
    /// As a command carries it: nothing if nothing is known.
    pub(crate) fn to_wire(&self) -> Option<Box<log::Caller>> {
        let certificate_name = self.certificate_name.as_deref()?;
        Some(Box::new(log::Caller {
            certificate_name: certificate_name.to_owned(),
            ..log::Caller::default()
        }))
    }
}
