//! Lets clients in whose requests name the server by something else than an authority.
//!
//! etcdctl before 3.5, when it is given `http://host:port` or asks each member of a cluster, sends that URL as the
//! pseudo-header `:authority`. Clients on gRPC's C core (Python, C++, Ruby, PHP) send all their addresses with commas in between,
//! and some send nothing. Go's server does not mind; ours refuses the stream before any of our code sees it. So every header block is
//! looked at while it comes in. Whatever may not be in an authority becomes `-`, and so does an empty one. Nothing reads the
//! authority, and as its length stays the same, both sides' compression tables stay in step; only where an empty one grows by a
//! byte ours may drop its oldest entry earlier, and the client would have to refer to exactly that one to notice.
//!
//! What needs no change passes where it was read, without a copy.
//!
//! Frames: RFC 9113, sections 3.4, 4.1 and 6.2. Header blocks: RFC 7541, sections 5 and 6.

use super::pass_writes::pass_writes;
use bytes::{Buf, Bytes, BytesMut};
use httlib_huffman::DecoderSpeed;
use hyper::http::uri::Authority;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER_BYTES: usize = 9;
/// The largest frame that a client may send unless told otherwise, and we do not tell.
const FRAME_BYTES_MAX: usize = 16_384;
const HEADERS: u8 = 1;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;
/// `:authority` in the static table.
const AUTHORITY_INDEX: usize = 1;
/// Some clients spell it out.
const AUTHORITY_NAME: &[u8] = b":authority";
const READ_BYTES: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AuthorityState {
    /// The connection may turn out to be HTTP/1.
    Preface,
    Frames,
    /// HTTP/1, or frames that make no sense: the server behind will say what is wrong with them.
    Through,
}

/// A stream whose reader sees proper authorities.
#[derive(Debug)]
pub struct ProperAuthority<S> {
    stream: S,
    rewriter: Rewriter,
}

impl<S> ProperAuthority<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            rewriter: Rewriter {
                state: AuthorityState::Preface,
                passing: 0,
                input: BytesMut::new(),
                output: BytesMut::new(),
            },
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ProperAuthority<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rewriter = &mut this.rewriter;
        let before = out.filled().len();
        while rewriter.output.is_empty() {
            if rewriter.state != AuthorityState::Preface && rewriter.input.is_empty() {
                ready!(Pin::new(&mut this.stream).poll_read(context, out))?;
                let read = &out.filled()[before..];
                let clear = rewriter.pass(read);
                rewriter.input.extend_from_slice(&read[clear..]);
                let is_end = read.is_empty();
                out.set_filled(before + clear);
                // At once: the client may wait for an answer to it before it sends more.
                rewriter.advance();
                if clear > 0 || is_end {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let held = rewriter.input.len();
            rewriter.input.resize(held + READ_BYTES, 0);
            let mut space = ReadBuf::new(&mut rewriter.input[held..]);
            let read = Pin::new(&mut this.stream).poll_read(context, &mut space);
            let read_bytes = space.filled().len();
            rewriter.input.truncate(held + read_bytes);
            ready!(read)?;
            if read_bytes == 0 {
                rewriter.pass_through();
                if rewriter.output.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            } else {
                rewriter.advance();
            }
        }
        let bytes = rewriter.output.len().min(out.remaining());
        out.put_slice(&rewriter.output[..bytes]);
        rewriter.output.advance(bytes);
        if rewriter.output.is_empty() && rewriter.input.is_empty() {
            // An idle connection need not keep what its first bytes were held in.
            (rewriter.input, rewriter.output) = (BytesMut::new(), BytesMut::new());
        }
        Poll::Ready(Ok(()))
    }
}

pass_writes!(ProperAuthority);

/// What has come in but not gone on yet is at most one frame.
#[derive(Debug)]
struct Rewriter {
    state: AuthorityState,
    /// What is still to come of a frame that passes as it is.
    passing: usize,
    input: BytesMut,
    output: BytesMut,
}

impl Rewriter {
    fn pass_through(&mut self) {
        self.state = AuthorityState::Through;
        self.output.unsplit(std::mem::take(&mut self.input));
    }

    /// How many of these bytes, which come next, may pass as they are.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while self.state == AuthorityState::Frames {
            let passed = self.passing.min(bytes.len() - at);
            self.passing -= passed;
            at += passed;
            let Some(header) = bytes[at..].first_chunk::<FRAME_HEADER_BYTES>() else {
                return at;
            };
            let length = frame_length(header);
            if length > FRAME_BYTES_MAX {
                self.state = AuthorityState::Through;
                break;
            }
            if header[3] == HEADERS {
                let frame = bytes.get(at..at + FRAME_HEADER_BYTES + length);
                if frame.is_none_or(|frame| rewrite(frame).is_some()) {
                    return at;
                }
            }
            self.passing = length;
            at += FRAME_HEADER_BYTES;
        }
        bytes.len()
    }

    /// Makes output of what came in, as far as it can.
    fn advance(&mut self) {
        if self.state == AuthorityState::Preface {
            let common = self.input.len().min(PREFACE.len());
            if self.input[..common] != PREFACE[..common] {
                return self.pass_through();
            }
            if common < PREFACE.len() {
                return;
            }
            self.output.unsplit(self.input.split_to(PREFACE.len()));
            self.state = AuthorityState::Frames;
        }
        loop {
            let input = std::mem::take(&mut self.input);
            let clear = self.pass(&input);
            self.input = input;
            self.output.unsplit(self.input.split_to(clear));
            // What stopped it is a header block: one that is not there in full, or one to be rewritten.
            let Some(header) = self.input.first_chunk::<FRAME_HEADER_BYTES>() else {
                return;
            };
            let bytes = FRAME_HEADER_BYTES + frame_length(header);
            if self.input.len() < bytes {
                return;
            }
            let frame = self.input.split_to(bytes);
            match rewrite(&frame) {
                Some(rewritten) => self.output.extend_from_slice(&rewritten),
                None => self.output.unsplit(frame),
            }
        }
    }
}

fn frame_length(header: &[u8; FRAME_HEADER_BYTES]) -> usize {
    usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2])
}

/// A frame with a header block, with a proper authority; none if there is nothing to be done about it.
fn rewrite(frame: &[u8]) -> Option<Bytes> {
    let (header, payload) = frame.split_at(FRAME_HEADER_BYTES);
    let flags = header[4];
    let mut start = 0;
    let mut end = payload.len();
    if flags & FLAG_PADDED != 0 {
        start += 1;
        end = end.checked_sub(usize::from(*payload.first()?))?;
    }
    if flags & FLAG_PRIORITY != 0 {
        start += 5;
    }
    let block = payload.get(start..end)?;
    let (place, authority) = find_authority(block)?;
    if Authority::try_from(&*authority).is_ok() {
        return None;
    }
    let mut proper: Vec<u8> = authority
        .iter()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || *byte == b'.' {
                *byte
            } else {
                b'-'
            }
        })
        .collect();
    if proper.is_empty() {
        proper.push(b'-');
    }
    let mut literal = vec![];
    put_length(proper.len(), &mut literal);
    literal.extend_from_slice(&proper);
    let length = payload.len() - place.len() + literal.len();
    if length > FRAME_BYTES_MAX {
        return None;
    }
    let mut out = BytesMut::with_capacity(FRAME_HEADER_BYTES + length);
    out.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&header[3..]);
    out.extend_from_slice(&payload[..start + place.start]);
    out.extend_from_slice(&literal);
    out.extend_from_slice(&payload[start + place.end..]);
    Some(out.freeze())
}

/// Where in a header block the authority's value stands, its length included, and what it says. None if it is not there
/// in full, for example because it repeats an earlier one.
fn find_authority(block: &[u8]) -> Option<(Range<usize>, Vec<u8>)> {
    let mut at = 0;
    while let Some(first) = block.get(at) {
        let (prefix_bits, is_literal) = match first {
            0x80.. => (7, false),
            0x40..0x80 => (6, true),
            0x20..0x40 => (5, false),
            _ => (4, true),
        };
        let (index, after) = number(block, at, prefix_bits)?;
        at = after;
        if !is_literal {
            continue;
        }
        let mut is_authority = index == AUTHORITY_INDEX;
        if index == 0 {
            let (is_huffman, name) = string(block, at)?;
            at = name.end;
            is_authority = decoded(is_huffman, &block[name])? == AUTHORITY_NAME;
        }
        let (is_huffman, value) = string(block, at)?;
        if is_authority {
            let authority = decoded(is_huffman, &block[value.clone()])?;
            return Some((at..value.end, authority));
        }
        at = value.end;
    }
    None
}

fn decoded(is_huffman: bool, bytes: &[u8]) -> Option<Vec<u8>> {
    if !is_huffman {
        return Some(bytes.to_vec());
    }
    let mut decoded = vec![];
    httlib_huffman::decode(bytes, &mut decoded, DecoderSpeed::FourBits).ok()?;
    Some(decoded)
}

/// Whether a string is Huffman-coded, and where its bytes are.
fn string(block: &[u8], at: usize) -> Option<(bool, Range<usize>)> {
    let is_huffman = block.get(at)? & 0x80 != 0;
    let (length, start) = number(block, at, 7)?;
    let end = start.checked_add(length)?;
    (end <= block.len()).then_some((is_huffman, start..end))
}

/// A number in the low bits of a byte and, if it does not fit there, in those that follow; and what comes after it.
fn number(block: &[u8], at: usize, prefix_bits: u32) -> Option<(usize, usize)> {
    let prefix_max = (1usize << prefix_bits) - 1;
    let mut value = usize::from(*block.get(at)?) & prefix_max;
    let mut at = at + 1;
    if value < prefix_max {
        return Some((value, at));
    }
    for shift in [0, 7, 14, 21] {
        let byte = usize::from(*block.get(at)?);
        at += 1;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
    }
    None
}

/// The length of a string that is not Huffman-coded.
fn put_length(length: usize, out: &mut Vec<u8>) {
    if length < 0x7f {
        out.push(length as u8);
        return;
    }
    out.push(0x7f);
    let mut rest = length - 0x7f;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
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

    /// A stream that brings so many bytes at a time.
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

    /// What comes out if `input` comes in, in pieces of `piece_bytes`.
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

    /// A client that waits for an answer once it has sent everything.
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
            // Not of the same length.
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
                        // Both sides have it in their tables by now.
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
}
