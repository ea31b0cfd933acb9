//! Lets clients in whose requests name the server by a URL instead of an authority.
//!
//! etcdctl before 3.5, when it is given `http://host:port` or asks each member of a cluster, sends that URL as the
//! pseudo-header `:authority`. Go's server does not mind; ours refuses the stream before any of our code sees it. So the
//! first header block of a connection is looked at while it comes in. If its authority is a proper one, as nearly
//! always, everything passes through untouched from then on. If not, each header block of the connection is rewritten:
//! whatever may not be in an authority becomes `-`. Nothing reads the authority, and as its length stays the same, both
//! sides' compression tables stay in step.
//!
//! Frames: RFC 9113, sections 3.4, 4.1 and 6.2. Header blocks: RFC 7541, sections 5 and 6.

use bytes::{Buf, Bytes, BytesMut};
use httlib_huffman::DecoderSpeed;
use hyper::http::uri::Authority;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER_BYTES: usize = 9;
/// The largest frame that a client may send unless told otherwise, and we do not tell.
const FRAME_BYTES_MAX: usize = 16_384;
const HEADERS: u8 = 1;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;
/// `:authority` in the static table.
const AUTHORITY_INDEX: usize = 1;
const READ_BYTES: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The connection may turn out to be HTTP/1.
    Preface,
    /// No header block has come yet.
    Looking,
    /// Header blocks are rewritten.
    Rewriting,
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
                state: State::Preface,
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
        while rewriter.output.is_empty() {
            if rewriter.state == State::Through {
                return Pin::new(&mut this.stream).poll_read(context, out);
            }
            let before = rewriter.input.len();
            rewriter.input.resize(before + READ_BYTES, 0);
            let mut space = ReadBuf::new(&mut rewriter.input[before..]);
            let read = Pin::new(&mut this.stream).poll_read(context, &mut space);
            let read_bytes = space.filled().len();
            rewriter.input.truncate(before + read_bytes);
            ready!(read)?;
            if read_bytes == 0 {
                rewriter.pass_through();
            } else {
                rewriter.advance();
            }
        }
        let bytes = rewriter.output.len().min(out.remaining());
        out.put_slice(&rewriter.output[..bytes]);
        rewriter.output.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ProperAuthority<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// What has come in but not gone on yet is at most one frame.
#[derive(Debug)]
struct Rewriter {
    state: State,
    input: BytesMut,
    output: BytesMut,
}

impl Rewriter {
    fn pass_through(&mut self) {
        self.state = State::Through;
        self.output.unsplit(std::mem::take(&mut self.input));
    }

    fn advance(&mut self) {
        if self.state == State::Preface {
            let common = self.input.len().min(PREFACE.len());
            if self.input[..common] != PREFACE[..common] {
                return self.pass_through();
            }
            if common < PREFACE.len() {
                return;
            }
            self.output.unsplit(self.input.split_to(PREFACE.len()));
            self.state = State::Looking;
        }
        while self.state != State::Through && self.input.len() >= FRAME_HEADER_BYTES {
            let length = usize::from(self.input[0]) << 16
                | usize::from(self.input[1]) << 8
                | usize::from(self.input[2]);
            if length > FRAME_BYTES_MAX {
                // The server behind will say what is wrong with it.
                return self.pass_through();
            }
            if self.input.len() < FRAME_HEADER_BYTES + length {
                return;
            }
            let frame = self.input.split_to(FRAME_HEADER_BYTES + length);
            if frame[3] != HEADERS {
                self.output.unsplit(frame);
                continue;
            }
            if let Some(rewritten) = rewrite(&frame) {
                self.state = State::Rewriting;
                self.output.extend_from_slice(&rewritten);
            } else {
                self.output.unsplit(frame);
                if self.state == State::Looking {
                    self.pass_through();
                }
            }
        }
    }
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
    let proper: Vec<u8> = authority
        .iter()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || *byte == b'.' {
                *byte
            } else {
                b'-'
            }
        })
        .collect();
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
        if index == 0 {
            at = string(block, at)?.1.end;
        }
        let (is_huffman, value) = string(block, at)?;
        if index == AUTHORITY_INDEX {
            let bytes = &block[value.clone()];
            let mut decoded = vec![];
            if is_huffman {
                httlib_huffman::decode(bytes, &mut decoded, DecoderSpeed::FourBits).ok()?;
            } else {
                decoded.extend_from_slice(bytes);
            }
            return Some((at..value.end, decoded));
        }
        at = value.end;
    }
    None
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

    /// What comes out if `input` comes in, in pieces of `piece_bytes`.
    fn passed(input: &[u8], piece_bytes: usize) -> (Vec<u8>, State) {
        let mut rewriter = ProperAuthority::new(()).rewriter;
        for piece in input.chunks(piece_bytes) {
            rewriter.input.extend_from_slice(piece);
            if rewriter.state == State::Through {
                rewriter.pass_through();
            } else {
                rewriter.advance();
            }
        }
        assert!(rewriter.input.is_empty());
        (rewriter.output.to_vec(), rewriter.state)
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
                // Not looked at any more.
                frame(1, 4, &block("http://127.0.0.1:2379", false)),
            ]),
            connection(&[frame(1, 4, &block("[::1]:2379", false))]),
            connection(&[vec![0xff; 40]]),
            connection(&[frame(1, 4, &[0x41, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])]),
            connection(&[frame(1, 0x28, &[200, 0])]),
        ] {
            for piece_bytes in [1, 7, 1000] {
                assert_eq!(passed(&input, piece_bytes), (input.clone(), State::Through));
            }
        }
    }

    #[test]
    fn urls_become_authorities_of_the_same_length_on_the_whole_connection() {
        for (url, proper) in [
            ("http://127.0.0.1:2379", "http---127.0.0.1-2379"),
            ("https://a/b?c", "https---a-b-c"),
        ] {
            for huffman in [false, true] {
                let padded = |block: &[u8]| [&[3, 0, 0, 0, 0, 9][..], block, &[0; 3]].concat();
                let frames = |authority: &str, huffman| {
                    connection(&[
                        frame(1, 4, &block(authority, huffman)),
                        frame(0, 1, &[0; 5]),
                        frame(1, 0x2c, &padded(&block(authority, huffman))),
                        // Both sides have it in their tables by now.
                        frame(1, 4, &[0x83, 0x86, 0xbe]),
                    ])
                };
                let expected = frames(proper, false);
                for piece_bytes in [1, 11, 1000] {
                    let out = passed(&frames(url, huffman), piece_bytes);
                    assert_eq!(out, (expected.clone(), State::Rewriting), "{url}");
                }
            }
        }
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
            prop_assert!(whole.len() >= PREFACE.len() + SETTINGS.len() + frames.len() * FRAME_HEADER_BYTES);
            prop_assert!(state == State::Rewriting || whole == input);
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
