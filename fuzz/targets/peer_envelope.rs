//! What comes over a peer link: envelopes and snapshot chunks, as they are and with a checksum that fits.

#![no_main]

use bytes::Bytes;
use callboard::peer::envelope;
use callboard::proto::peer::{Envelope, SnapshotChunk};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    if let Ok(envelope) = Envelope::decode(data) {
        let _ = envelope::unwrap_hello(&envelope);
        let _ = envelope::unwrap(envelope);
    }
    if let Ok(chunk) = SnapshotChunk::decode(data) {
        let _ = envelope::unwrap_announcement(&chunk);
        let _ = envelope::unwrap_records(&chunk);
    }
    let bytes = Bytes::copy_from_slice(data);
    let envelope = Envelope {
        hello: Bytes::new(),
        batch: bytes.clone(),
        crc: crc32c::crc32c(data),
    };
    if let Ok(batch) = envelope::unwrap(envelope) {
        let again = envelope::unwrap(envelope::wrap(&batch)).expect("what was read can be sent on");
        assert_eq!(again, batch);
    }
    let chunk = envelope::seal_chunk(SnapshotChunk {
        hello: bytes.clone(),
        announcement: bytes.clone(),
        records: bytes,
        ..SnapshotChunk::default()
    });
    let _ = envelope::unwrap_announcement(&chunk);
    if let Ok(records) = envelope::unwrap_records(&chunk) {
        let again = envelope::unwrap_records(&envelope::wrap_records(1, records.clone(), false));
        assert_eq!(again.expect("what was read can be sent on"), records);
    }
});
