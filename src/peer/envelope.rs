//! The wrapping of everything on a peer link: an encoded batch and its checksum, so that a byte that the network (or a
//! middle box, or memory) changed never reaches raft.

use crate::proto::peer::{Batch, Envelope, SnapshotChunk, SnapshotRecord, SnapshotRecords};
use bytes::Bytes;
use prost::Message;

/// What came was not what was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    #[error("the checksum of a batch of {0} bytes is wrong")]
    Checksum(usize),
    #[error("a batch does not decode: {0}")]
    Decode(#[from] prost::DecodeError),
}

/// Wraps a batch.
pub fn wrap(batch: &Batch) -> Envelope {
    let batch = Bytes::from(batch.encode_to_vec());
    Envelope {
        hello: None,
        batch_crc: crc32c::crc32c(&batch),
        batch,
    }
}

/// Checks and unwraps a batch. Payloads stay where they are: the batch points into the envelope.
pub fn unwrap(envelope: Envelope) -> Result<Batch, EnvelopeError> {
    check(&envelope.batch, envelope.batch_crc)?;
    Ok(Batch::decode(envelope.batch)?)
}

/// Wraps the records of a snapshot.
pub fn wrap_records(records: Vec<SnapshotRecord>) -> SnapshotChunk {
    let records = Bytes::from(SnapshotRecords { records }.encode_to_vec());
    SnapshotChunk {
        records_crc: crc32c::crc32c(&records),
        records,
        ..SnapshotChunk::default()
    }
}

/// Checks and unwraps the records of a snapshot.
pub fn unwrap_records(chunk: &SnapshotChunk) -> Result<Vec<SnapshotRecord>, EnvelopeError> {
    check(&chunk.records, chunk.records_crc)?;
    Ok(SnapshotRecords::decode(chunk.records.clone())?.records)
}

fn check(bytes: &[u8], crc: u32) -> Result<(), EnvelopeError> {
    if crc32c::crc32c(bytes) == crc {
        Ok(())
    } else {
        Err(EnvelopeError::Checksum(bytes.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::peer;
    use proptest::prelude::*;

    fn batch() -> Batch {
        let entry = peer::Entry {
            term: 3,
            index: 4,
            data: "payload".into(),
            ..peer::Entry::default()
        };
        let message = peer::Message {
            to: 1,
            from: 2,
            entries: vec![entry],
            ..peer::Message::default()
        };
        Batch {
            messages: vec![message],
            forwarded_commands: vec!["commands".into()],
        }
    }

    #[test]
    fn a_batch_survives() {
        assert_eq!(unwrap(wrap(&batch())).expect("sound"), batch());
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_found(place in 0_usize..30, bit in 0_u8..8) {
            let mut envelope = wrap(&batch());
            let mut bytes = envelope.batch.to_vec();
            let place = place % bytes.len();
            bytes[place] ^= 1 << bit;
            envelope.batch = bytes.into();
            prop_assert!(matches!(unwrap(envelope), Err(EnvelopeError::Checksum(_))));
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>) {
            let envelope = Envelope { hello: None, batch_crc: crc32c::crc32c(&bytes), batch: bytes.into() };
            let _ = unwrap(envelope);
        }
    }
}
