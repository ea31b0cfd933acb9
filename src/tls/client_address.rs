//! Whether the certificate of a dialling member is for the address that the member dials from. A certificate without addresses
//! and names fits everywhere. `--peer-skip-client-san-verification` switches the check off.
//!
//! Mirrors `checkCertSAN` of etcd's client/pkg/transport/listener_tls.go.

use super::HandshakeError;
use super::certificate::parse;
use crate::env;
use rustls::pki_types::CertificateDer;
use std::net::IpAddr;
use x509_parser::extensions::GeneralName;

/// The subject alternative names of a certificate that say where it may be used.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    addresses: Vec<IpAddr>,
    names: Vec<String>,
}

/// Refuses a certificate that is for other places than `address`.
pub(super) async fn check(end: &CertificateDer<'_>, address: IpAddr) -> Result<(), HandshakeError> {
    let places = Places::of(end);
    if places.fits(address) {
        return Ok(());
    }
    // Most names resolve from a file at once. Going back from an address to its names may take a name server that is away.
    for name in places.names.iter().filter(|name| !name.starts_with("*.")) {
        let resolved = env::resolve(&format!("{name}:0")).await.unwrap_or_default();
        if resolved.iter().any(|found| found.ip().to_canonical() == address) {
            return Ok(());
        }
    }
    if !places.names.is_empty()
        && env::names_of(address)
            .await
            .iter()
            .any(|name| places.has_name(name))
    {
        return Ok(());
    }
    Err(places.refusal(address))
}

impl Places {
    fn of(end: &CertificateDer<'_>) -> Self {
        let mut places = Self::default();
        // The certificate was parsed before, when it was verified.
        let Ok(parsed) = parse(end) else { return places };
        let Ok(Some(extension)) = parsed.subject_alternative_name() else {
            return places;
        };
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) => places.names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => places.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        places
    }

    /// Whether nothing needs to be resolved: the address is listed, or nothing is.
    fn fits(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address) || (self.addresses.is_empty() && self.names.is_empty())
    }

    /// Whether a name that the resolver gives the address is listed.
    fn has_name(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.');
        self.names.iter().any(|listed| match listed.strip_prefix('*') {
            Some(suffix) => name.ends_with(suffix),
            None => listed == name,
        })
    }

    /// The text is Go's, or etcd's.
    fn refusal(&self, address: IpAddr) -> HandshakeError {
        let text = if self.names.is_empty() {
            let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
            format!(
                "x509: certificate is valid for {}, not {address}",
                addresses.join(", ")
            )
        } else {
            let names: Vec<_> = self.names.iter().map(|name| format!("{name:?}")).collect();
            format!(
                "tls: \"{address}\" does not match any of DNSNames [{}]",
                names.join(" ")
            )
        };
        HandshakeError::OtherAddress(text)
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let address = four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn certificate(names: &[&str]) -> CertificateDer<'static> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        rcgen::generate_simple_self_signed(names)
            .expect("a certificate")
            .cert
            .into()
    }

    #[test]
    fn a_certificate_is_for_the_addresses_that_it_lists() {
        let dialled_from = "10.0.0.1".parse().expect("an address");
        for (names, refusal) in [
            (&[][..], None),
            (&["10.0.0.1", "10.0.0.2"], None),
            (&["::ffff:10.0.0.1"], None),
            (
                &["10.0.0.2", "fd00::1"],
                Some("x509: certificate is valid for 10.0.0.2, fd00::1, not 10.0.0.1"),
            ),
        ] {
            let checked = check(&certificate(names), dialled_from)
                .now_or_never()
                .expect("nothing to resolve");
            assert_eq!(
                checked.err().map(|error| error.to_string()).as_deref(),
                refusal,
                "{names:?}"
            );
        }
    }

    #[test]
    fn names_are_compared_with_those_of_the_resolver() {
        let places = Places::of(&certificate(&["m1.example.com", "*.cluster.local"]));
        for (name, is_listed) in [
            ("m1.example.com.", true),
            ("m2.example.com", false),
            ("m2.cluster.local", true),
            ("cluster.local", false),
        ] {
            assert_eq!(places.has_name(name), is_listed, "{name}");
        }
        let address = "10.0.0.1".parse().expect("an address");
        assert_eq!(
            places.refusal(address).to_string(),
            "tls: \"10.0.0.1\" does not match any of DNSNames [\"m1.example.com\" \"*.cluster.local\"]"
        );
        assert!(!places.fits(address));
    }
}
