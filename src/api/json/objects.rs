//! Finds where one JSON object ends and the next begins, in a stream that arrives in pieces.
//!
//! No byte is scanned twice, however small the pieces are. Objects are not validated here.

use bytes::{Bytes, BytesMut};

/// Objects that have not been taken yet.
#[derive(Debug, Default)]
pub struct Objects {
    buffer: BytesMut,
    /// The number of bytes scanned.
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

/// The text between objects is not an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoObject;

impl Objects {
    pub fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// Bytes that wait for the rest of an object.
    pub fn waiting_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The next object; none until more data has arrived.
    pub fn take(&mut self) -> Result<Option<Bytes>, NoObject> {
        while let Some(&byte) = self.buffer.get(self.scanned) {
            self.scanned += 1;
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'{' => self.depth += 1,
                b'}' if self.depth == 1 => {
                    self.depth = 0;
                    let object = self.buffer.split_to(self.scanned);
                    self.scanned = 0;
                    return Ok(Some(object.freeze()));
                }
                b'}' if self.depth > 1 => self.depth -= 1,
                b'"' if self.depth > 0 => self.in_string = true,
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ if self.depth == 0 => return Err(NoObject),
                _ => {}
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&str]) -> (Vec<String>, bool) {
        let mut objects = Objects::default();
        let mut found = vec![];
        for piece in pieces {
            objects.push(piece.as_bytes());
            loop {
                match objects.take() {
                    Ok(Some(object)) => found.push(String::from_utf8(object.to_vec()).unwrap()),
                    Ok(None) => break,
                    Err(NoObject) => return (found, false),
                }
            }
        }
        (found, true)
    }

    #[test]
    fn objects_are_found_whole_and_in_any_pieces() {
        let cases: [(&str, &[&str], bool); 9] = [
            ("", &[], true),
            (" \n\t", &[], true),
            ("{}", &["{}"], true),
            ("{}{} {\"a\":{}}", &["{}", "{}", " {\"a\":{}}"], true),
            (
                "{\"a\":\"}\\\"}\\\\\"}{}",
                &["{\"a\":\"}\\\"}\\\\\"}", "{}"],
                true,
            ),
            ("{\"a\":[{},{}]}\n", &["{\"a\":[{},{}]}"], true),
            ("{} x", &["{}"], false),
            ("[]", &[], false),
            ("}", &[], false),
        ];
        for (text, objects, sound) in cases {
            let expected = (objects.iter().map(ToString::to_string).collect::<Vec<_>>(), sound);
            assert_eq!(split(&[text]), expected, "{text}");
            let bytes: Vec<String> = text.chars().map(String::from).collect();
            let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
            assert_eq!(split(&bytes), expected, "{text} byte by byte");
        }
    }
}
