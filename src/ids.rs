//! Number types for IDs and indexes, so that one cannot be mistaken for another.

use std::fmt;

macro_rules! number {
    ($(#[$meta:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

number!(
    /// A member of the cluster. Printed as etcd does: hexadecimal, without padding.
    MemberId(u64), "{:x}"
);
number!(
    /// A cluster. Printed in hexadecimal, without padding.
    ClusterId(u64), "{:x}"
);
number!(
    /// Drawn at random when a data directory is created. Distinguishes disks under the same member ID.
    Incarnation(u64), "{:x}"
);
number!(
    /// A raft term.
    Term(u64), "{}"
);
number!(
    /// The index of an entry in the replicated log.
    LogIndex(u64), "{}"
);

impl LogIndex {
    /// The index after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The index before this one; 0 for 0.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}
