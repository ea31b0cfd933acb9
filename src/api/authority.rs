//! Accepts clients whose `:authority` is not a valid authority.
//!
//! etcdctl before 3.5, when it is given `http://host:port` or asks each member of a cluster, sends that URL as the pseudo-header
//! `:authority`. Clients on gRPC's C core (Python, C++, Ruby, PHP) send all their addresses, separated by commas; some send
//! nothing. Go's server accepts this. Ours refuses the stream before any of our code sees it. So every header block is inspected
//! as it arrives. Each character that an authority may not have becomes `-`, and so does an empty authority. Nothing reads the
//! authority. Its length stays the same, so the compression tables of both sides stay in step. The exception is an empty one,
//! which grows by a byte: our table may then drop its oldest entry earlier, which matters only if the client refers to exactly
//! that entry.
//!
//! Bytes that need no change are not copied.
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
/// The largest frame that a client may send by default; we do not raise the limit.
const FRAME_BYTES_MAX: usize = 16_384;
const HEADERS: u8 = 1;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;
/// `:authority` in the static table.
const AUTHORITY_INDEX: usize = 1;
/// Some clients send the name as a literal.
const AUTHORITY_NAME: &[u8] = b":authority";
const READ_BYTES: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AuthorityState {
    /// The connection may turn out to be HTTP/1.
    Preface,
    Frames,
    /// HTTP/1, or invalid frames: the server behind reports what is wrong with them.
    Through,
}

/// A stream whose reader sees valid authorities.
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
                // Immediately: the client may wait for a reply to it before it sends more.
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
            // Frees the buffers of the first bytes, which an idle connection does not need.
            (rewriter.input, rewriter.output) = (BytesMut::new(), BytesMut::new());
        }
        Poll::Ready(Ok(()))
    }
}

pass_writes!(ProperAuthority);

/// Holds back one frame at most.
#[derive(Debug)]
struct Rewriter {
    state: AuthorityState,
    /// The remaining bytes of a frame that passes unchanged.
    passing: usize,
    input: BytesMut,
    output: BytesMut,
}

impl Rewriter {
    fn pass_through(&mut self) {
        self.state = AuthorityState::Through;
        self.output.unsplit(std::mem::take(&mut self.input));
    }

    /// How many of these bytes, which come next, may pass unchanged.
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

    /// Turns as much input as possible into output.
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
            // The next frame is a header block that is incomplete or has to be rewritten.
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

/// Rewrites a frame with a header block so that its authority is valid; none if it needs no change.
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

/// The range of the authority's value in a header block, including its length, and the value. None if the block holds no full
/// value, for example because it refers to an earlier one.
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

/// A number in the low bits of a byte and, if it does not fit there, in the following bytes; and the position after it.
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
#[path = "authority_tests.rs"]
mod tests;
