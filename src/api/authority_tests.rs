//! Authorities of all kinds, in pieces of all sizes.

use super::*;

use proptest::prelude::*;

const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
    frame.extend_from_slice(payload);
    frame
}

/// POST, http, a path, the authority, one more header; `:authority` indexed by the static table.
fn block(authority: &str, huffman: bool) -> Vec<u8> {
    let mut block = vec![0x83, 0x86, 0x44, 2, b'/', b'x', 0x41];
    if huffman {
        let mut coded = vec![];
        httlib_huffman::encode(authority.as_bytes(), &mut coded).unwrap();
        put_length(coded.len(), &mut block);
        let at = block.len() - 1;
        block[at] |= 0x80;
        block.extend_from_slice(&coded);
    } else {
        put_length(authority.len(), &mut block);
        block.extend_from_slice(authority.as_bytes());
    }
    block.extend_from_slice(&[0x40, 2, b't', b'e', 1, b'x']);
    block
}

/// A stream that delivers this many bytes at a time.
struct Pieces<'a>(&'a [u8], usize);

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes = self.0.len().min(self.1).min(out.remaining());
        let (piece, rest) = self.0.split_at(bytes);
        out.put_slice(piece);
        self.0 = rest;
        Poll::Ready(Ok(()))
    }
}

/// The output for `input` in pieces of `piece_bytes`.
fn passed(input: &[u8], piece_bytes: usize) -> (Vec<u8>, AuthorityState) {
    let mut stream = ProperAuthority::new(Pieces(input, piece_bytes));
    let mut out = vec![];
    let mut context = Context::from_waker(std::task::Waker::noop());
    loop {
        let mut space = [0; 100];
        let mut space = ReadBuf::new(&mut space);
        let read = Pin::new(&mut stream).poll_read(&mut context, &mut space);
        assert!(matches!(read, Poll::Ready(Ok(()))));
        if space.filled().is_empty() {
            break;
        }
        out.extend_from_slice(space.filled());
    }
    assert!(stream.rewriter.input.is_empty());
    (out, stream.rewriter.state)
}

/// A client that waits for a reply once it has sent everything.
struct Patient<'a>(Pieces<'a>);

impl AsyncRead for Patient<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.0.is_empty() {
            return Poll::Pending;
        }
        Pin::new(&mut self.0).poll_read(context, out)
    }
}

#[test]
fn a_client_that_waits_for_an_answer_is_not_kept_waiting_for_what_it_has_sent() {
    let [good, bad] = ["a:1", "a/b"].map(|authority| frame(1, 4, &block(authority, false)));
    let bad = connection(&[good, frame(0, 1, &[0; 5]), bad]);
    for piece_bytes in 1..=bad.len() {
        let mut stream = ProperAuthority::new(Patient(Pieces(&bad, piece_bytes)));
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut out = vec![];
        loop {
            let mut space = [0; 100];
            let mut space = ReadBuf::new(&mut space);
            match Pin::new(&mut stream).poll_read(&mut context, &mut space) {
                Poll::Ready(read) => read.expect("no error"),
                Poll::Pending => break,
            }
            out.extend_from_slice(space.filled());
        }
        assert_eq!(out.len(), bad.len(), "{piece_bytes}");
    }
}

fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
    [PREFACE.to_vec(), SETTINGS.to_vec(), frames.concat()].concat()
}

#[test]
fn proper_authorities_and_http_1_pass_untouched() {
    for input in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"PRI".iter().chain(b" / HTTP/1.1\r\n\r\n").copied().collect(),
        connection(&[
            frame(1, 4, &block("127.0.0.1:2379", true)),
            frame(0, 1, &[0; 5]),
            frame(1, 4, &block("localhost", false)),
        ]),
        connection(&[frame(1, 4, &block("[::1]:2379", false))]),
        connection(&[vec![0xff; 40]]),
        connection(&[frame(1, 4, &[0x41, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])]),
        connection(&[frame(1, 0x28, &[200, 0])]),
    ] {
        for piece_bytes in [1, 7, 1000] {
            assert_eq!(passed(&input, piece_bytes).0, input);
        }
    }
}

#[test]
fn whatever_is_no_authority_becomes_one_of_the_same_length_on_the_whole_connection() {
    for (name, proper) in [
        ("http://127.0.0.1:2379", "http---127.0.0.1-2379"),
        ("https://a/b?c", "https---a-b-c"),
        (
            "127.0.0.1%3A2379%2C127.0.0.1%3A3379",
            "127.0.0.1-3A2379-2C127.0.0.1-3A3379",
        ),
        ("127.0.0.1:2379,127.0.0.1:3379", "127.0.0.1-2379-127.0.0.1-3379"),
        // The length changes.
        ("", "-"),
    ] {
        for huffman in [false, true] {
            let padded = |block: &[u8]| [&[3, 0, 0, 0, 0, 9][..], block, &[0; 3]].concat();
            let frames = |authority: &str, huffman| {
                connection(&[
                    frame(1, 4, &block("good:2379", false)),
                    frame(1, 4, &block(authority, huffman)),
                    frame(0, 1, &[0; 5]),
                    frame(1, 0x2c, &padded(&block(authority, huffman))),
                    // Both sides have it in their tables now.
                    frame(1, 4, &[0x83, 0x86, 0xbe]),
                ])
            };
            let expected = frames(proper, false);
            for piece_bytes in [1, 11, 1000] {
                let out = passed(&frames(name, huffman), piece_bytes);
                assert_eq!(out, (expected.clone(), AuthorityState::Frames), "{name}");
            }
        }
    }
}

#[test]
fn a_name_may_be_spelled_out() {
    let spelled = |authority: &str| {
        let mut block = vec![0x83, 0x40, 10];
        block.extend_from_slice(AUTHORITY_NAME);
        put_length(authority.len(), &mut block);
        block.extend_from_slice(authority.as_bytes());
        connection(&[frame(1, 4, &block)])
    };
    assert_eq!(passed(&spelled("a:1,b:2"), 1000).0, spelled("a-1-b-2"));
    assert_eq!(passed(&spelled("a:1"), 1000).0, spelled("a:1"));
}

proptest! {
    #[test]
    fn whatever_comes_in_passes_in_full_and_pieces_do_not_matter(
        frames in proptest::collection::vec((0..3u8, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..6),
        piece_bytes in 1..50usize,
    ) {
        let frames: Vec<_> = frames.iter().map(|(kind, flags, payload)| frame(*kind, *flags, payload)).collect();
        let input = connection(&frames);
        let (whole, state) = passed(&input, input.len());
        prop_assert_eq!(passed(&input, piece_bytes), (whole.clone(), state));
        prop_assert!(frames.iter().any(|frame| rewrite(frame).is_some()) || whole == input);
        prop_assert!(whole.len() >= PREFACE.len() + SETTINGS.len() + frames.len() * FRAME_HEADER_BYTES);
    }
}

#[test]
fn long_numbers_are_read_and_written() {
    for length in [0, 1, 126, 127, 128, 254, 255, 256, 16_000] {
        let mut out = vec![];
        put_length(length, &mut out);
        assert_eq!(number(&out, 0, 7), Some((length, out.len())));
    }
    assert_eq!(number(&[0x7f, 0x80, 0x80, 0x80, 0x80, 0x01], 0, 7), None);
}
