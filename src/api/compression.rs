//! Compressed requests. etcd accepts gzip, because a library that it uses registers it, and nothing else. Replies are not
//! compressed, which every client accepts.

use ::http::HeaderMap;
use bytes::Bytes;
use flate2::read::GzDecoder;
use std::io::Read;
use tonic::Status;

const GZIP: &str = "gzip";

/// The `grpc-encoding` of a call's messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    #[default]
    Identity,
    Gzip,
    Unknown(String),
}

impl Encoding {
    pub fn of(headers: &HeaderMap) -> Self {
        let named = headers
            .get("grpc-encoding")
            .map(|value| String::from_utf8_lossy(value.as_bytes()));
        match named.as_deref() {
            None | Some("" | "identity") => Self::Identity,
            Some(GZIP) => Self::Gzip,
            Some(other) => Self::Unknown(other.to_owned()),
        }
    }

    /// Whether messages with the compressed flag can be read.
    pub fn check(&self) -> Result<(), Status> {
        match self {
            Self::Gzip => Ok(()),
            Self::Identity => Err(Status::internal(
                "grpc: compressed flag set with identity or empty encoding",
            )),
            Self::Unknown(name) => Err(Status::unimplemented(format!(
                "grpc: Decompressor is not installed for grpc-encoding {name:?}"
            ))),
        }
    }
}

/// Decompresses a message, unless it is too large.
pub fn expand(compressed: &[u8], bytes_max: usize) -> Result<Bytes, Status> {
    let mut message = Vec::new();
    // One byte more shows that the message is too large.
    let mut reader = GzDecoder::new(compressed).take(bytes_max as u64 + 1);
    let read = reader.read_to_end(&mut message);
    read.map_err(|error| {
        Status::internal(format!(
            "grpc: failed to decompress the received message: {error}"
        ))
    })?;
    if message.len() > bytes_max {
        return Err(Status::resource_exhausted(format!(
            "grpc: received message after decompression larger than max {bytes_max}"
        )));
    }
    Ok(message.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;
    use tonic::Code;

    fn compressed(message: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(vec![], Compression::best());
        encoder.write_all(message).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn messages_expand_up_to_a_bound() {
        let bomb = compressed(&vec![7; 1 << 20]);
        assert!(bomb.len() < 2_000);
        assert_eq!(expand(&bomb, 1 << 20).unwrap().len(), 1 << 20);
        assert_eq!(
            expand(&bomb, (1 << 20) - 1).unwrap_err().code(),
            Code::ResourceExhausted
        );
        assert_eq!(
            expand(&bomb[..bomb.len() / 2], 1 << 20).unwrap_err().code(),
            Code::Internal
        );
        assert_eq!(expand(b"nonsense", 1 << 20).unwrap_err().code(), Code::Internal);
    }

    #[test]
    fn encodings_are_told_apart() {
        let of = |name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-encoding", name.parse().unwrap());
            Encoding::of(&headers).check().map_err(|status| status.code())
        };
        assert_eq!(of("gzip"), Ok(()));
        assert_eq!(of("identity"), Err(Code::Internal));
        assert_eq!(of("deflate"), Err(Code::Unimplemented));
        assert_eq!(Encoding::of(&HeaderMap::new()), Encoding::Identity);
    }
}
