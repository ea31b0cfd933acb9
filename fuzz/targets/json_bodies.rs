//! JSON bodies of all requests: they are read or refused, and what was read survives being written and read again. The
//! first byte chooses the request. Streams of objects are cut at the same places however they arrive.

#![no_main]

use callboard::api::json::objects::Objects;
use callboard::api::json::{table, text};
use libfuzzer_sys::fuzz_target;

/// Before each gRPC message: a flag and its length.
const PREFIX_BYTES: usize = 5;
/// More than fit into what the fuzzer makes.
const VALUES_MAX: usize = 1 << 20;

fn cut(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let mut objects = Objects::default();
    let mut found = vec![];
    for piece in pieces {
        objects.push(piece);
        loop {
            match objects.take() {
                Ok(Some(object)) => found.push(object.to_vec()),
                Ok(None) => break,
                Err(_) => return (found, false),
            }
        }
    }
    (found, true)
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else {
        return;
    };
    let (route, _) = table::ROUTES[usize::from(*choice) % table::ROUTES.len()];
    let call = table::call(route).expect("it is in the table");
    if let Ok(frame) = text::read(&call.request, body, VALUES_MAX) {
        let mut written = vec![];
        text::write(&call.request, frame.slice(PREFIX_BYTES..), &mut written)
            .expect("what was read can be written");
        let again = text::read(&call.request, &written, VALUES_MAX).expect("what was written can be read");
        assert!(again == frame, "{}", String::from_utf8_lossy(&written));
    }
    let singles: Vec<&[u8]> = body.chunks(1).collect();
    assert!(cut(&[body]) == cut(&singles));
});
