//! What wrapping and unwrapping the messages between members costs: encoding, decoding and the checksum.

use callboard::peer::envelope;
use callboard::proto::peer::{Batch, Entry, Envelope, Message};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use std::hint::black_box;

fn batch(entries: u64, payload_bytes: usize) -> Batch {
    let entry = |index| Entry {
        term: 3,
        index,
        data: vec![index as u8; payload_bytes].into(),
        ..Entry::default()
    };
    let message = Message {
        r#type: 3,
        to: 0x8e9e_05c5_2164_694d,
        from: 0xca50_e9f3_ebd7_2a11,
        term: 3,
        log_term: 3,
        index: 1_000_000,
        entries: (1_000_001..=1_000_000 + entries).map(entry).collect(),
        commit: 1_000_000,
        ..Message::default()
    };
    Batch {
        messages: vec![message],
        forwarded_commands: Vec::new(),
        forwarded_member_changes: Vec::new(),
    }
}

fn envelopes(criterion: &mut Criterion) {
    // A heartbeat or an answer; one small entry; one entry of many commands.
    for (name, entries, payload_bytes) in [
        ("no entry", 0, 0),
        ("1 entry of 256 bytes", 1, 256),
        ("1 entry of 64 KiB", 1, 65_536),
        ("100 entries of 256 bytes", 100, 256),
    ] {
        let batch = batch(entries, payload_bytes);
        let sent = envelope::wrap(&batch).encode_to_vec();
        let sent = bytes::Bytes::from(sent);
        let mut group = criterion.benchmark_group("envelope");
        group.throughput(Throughput::Bytes(sent.len() as u64));
        group.bench_function(BenchmarkId::new("encode", name), |bencher| {
            bencher.iter(|| envelope::wrap(black_box(&batch)).encode_to_vec());
        });
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            bencher.iter(|| {
                let envelope = Envelope::decode(black_box(sent.clone())).expect("sound");
                envelope::unwrap(envelope).expect("sound")
            });
        });
        group.finish();
    }
}

criterion_group!(benches, envelopes);
criterion_main!(benches);
