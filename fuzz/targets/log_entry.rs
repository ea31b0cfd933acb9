//! What the log holds: records on disk, as they are and with a checksum that fits, and the commands inside entries.

#![no_main]

use bytes::Bytes;
use callboard::proto::log::CommandBatch;
use callboard::storage::log::decode_record;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    let Some((key, value)) = data.split_first_chunk::<8>() else {
        return;
    };
    let _ = decode_record(key, Bytes::copy_from_slice(value));
    let sum = crc32c::crc32c_append(crc32c::crc32c(key), value);
    let sealed = [&sum.to_le_bytes(), value].concat();
    if let Ok(batch) = decode_record(key, sealed.into()) {
        for entry in batch.entries {
            let _ = CommandBatch::decode(entry.data);
        }
    }
    if let Ok(batch) = CommandBatch::decode(value) {
        let again = CommandBatch::decode(batch.encode_to_vec().as_slice());
        assert!(again.expect("what was read can be written") == batch);
    }
});
