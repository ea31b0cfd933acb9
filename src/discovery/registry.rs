//! What has registered under a token: who is of the new cluster, and how many are missing. Pure.
//!
//! The invariant it keeps: members that see the same registrations make the same list, whatever the order they came to know of
//! them in; the first to register are in, and nobody else.

use super::Refusal;
use crate::cluster::InitialCluster;

/// One member's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registration {
    /// The member's id in hexadecimal: the end of its key.
    pub id: String,
    /// `name=url,name=url`.
    pub urls: String,
    /// When it came, in the service's own count.
    pub created: u64,
}

/// All that has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registry {
    /// How many members the cluster is to have.
    size: usize,
    /// By the time they came.
    registrations: Vec<Registration>,
    /// The service's count at which this was so: what comes later has a higher one.
    pub seen: u64,
}

impl Registry {
    /// Takes entries in any order.
    pub fn new(size: usize, mut registrations: Vec<Registration>, seen: u64) -> Self {
        registrations.sort_by_key(|registration| registration.created);
        Self {
            size,
            registrations,
            seen,
        }
    }

    /// The size as the service keeps it.
    pub fn parse_size(text: &str) -> Result<usize, Refusal> {
        match text.trim().parse() {
            Ok(0) | Err(_) => Err(Refusal::BadSizeKey),
            Ok(size) => Ok(size),
        }
    }

    /// Those that make the cluster.
    pub fn members(&self) -> &[Registration] {
        &self.registrations[..self.size.min(self.registrations.len())]
    }

    /// How many have not come yet.
    pub fn missing(&self) -> usize {
        self.size - self.members().len()
    }

    /// Refuses a member for which there is no room: the places are taken, and none of them is its own.
    pub fn check_place(&self, id: &str) -> Result<(), Refusal> {
        let is_own = |registration: &Registration| registration.id == id;
        if self.missing() == 0 && !self.members().iter().any(is_own) {
            return Err(Refusal::Full);
        }
        Ok(())
    }

    /// What they have said of themselves, once all have come.
    pub fn initial_cluster(&self) -> Result<InitialCluster, Refusal> {
        let urls = self.members().iter().map(|member| member.urls.as_str());
        let text = urls.collect::<Vec<_>>().join(",");
        let listed = InitialCluster::parse(&text).map_err(|_| Refusal::InvalidUrl)?;
        if listed.len() != self.size {
            return Err(Refusal::DuplicateName);
        }
        Ok(listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(size: usize, entries: &[(&str, &str, u64)]) -> Registry {
        let entry = |(id, urls, created): &(&str, &str, u64)| Registration {
            id: (*id).to_owned(),
            urls: (*urls).to_owned(),
            created: *created,
        };
        Registry::new(size, entries.iter().map(entry).collect(), 9)
    }

    #[test]
    fn the_first_to_come_are_the_members() {
        let mut entries = [
            ("c", "m3=http://c:1", 7),
            ("a", "m1=http://a:1", 5),
            ("d", "m4=http://d:1", 8),
            ("b", "m2=http://b:1", 6),
        ];
        for _ in 0..entries.len() {
            entries.rotate_left(1);
            let registry = registry(3, &entries);
            assert_eq!(registry.missing(), 0);
            let listed = registry.initial_cluster().expect("sound").to_string();
            assert_eq!(listed, "m1=http://a:1,m2=http://b:1,m3=http://c:1");
            assert!(registry.check_place("c").is_ok());
            for late in ["d", "e"] {
                assert!(matches!(registry.check_place(late), Err(Refusal::Full)), "{late}");
            }
        }
    }

    #[test]
    fn who_waits_knows_how_many_are_missing() {
        for (size, entries, missing) in [
            (3, &[][..], 3),
            (3, &[("a", "m1=http://a:1", 1)][..], 2),
            (1, &[("a", "m1=http://a:1", 1), ("b", "m2=http://b:1", 2)][..], 0),
        ] {
            assert_eq!(registry(size, entries).missing(), missing);
        }
        assert!(registry(2, &[("a", "m1=http://a:1", 1)]).check_place("b").is_ok());
    }

    #[test]
    fn what_makes_no_cluster_is_refused() {
        let duplicate = registry(2, &[("a", "m=http://a:1", 1), ("b", "m=http://b:1", 2)]);
        assert!(matches!(duplicate.initial_cluster(), Err(Refusal::DuplicateName)));
        let broken = registry(1, &[("a", "no url", 1)]);
        assert!(matches!(broken.initial_cluster(), Err(Refusal::InvalidUrl)));
        for text in ["", "0", "-1", "x", "3.5"] {
            assert!(
                matches!(Registry::parse_size(text), Err(Refusal::BadSizeKey)),
                "{text}"
            );
        }
        assert_eq!(Registry::parse_size("3").expect("sound"), 3);
    }
}
