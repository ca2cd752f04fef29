//! Where WebSocket frames begin and end, so that a close frame of ours never lands within one. Pure.
//!
//! In: the bytes of one direction, in pieces of any size. Out: how far the current frame goes. Content is
//! passed over unread. Specification: RFC 6455 5.2.

use thiserror::Error;

/// A frame whose end cannot be known.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a WebSocket frame with a length above 2^63")]
pub struct BadLength;

/// Position within one direction of a WebSocket.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    /// The current frame's header as far as it has arrived; its first `have` bytes.
    header: [u8; 14],
    have: usize,
    /// Payload of the current frame that has not arrived.
    left: u64,
    closed: bool,
    data: bool,
}

impl Frames {
    /// At the beginning.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// True between two frames.
    #[must_use]
    pub const fn at_boundary(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// True once a close frame has begun: nothing may follow it.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether a frame with content has begun since this was last asked; control frames do not count.
    pub const fn take_data(&mut self) -> bool {
        std::mem::replace(&mut self.data, false)
    }

    /// Reads on to the end of the current frame or of `bytes`; returns how many bytes that are.
    ///
    /// # Errors
    /// RFC 6455 5.2: the highest bit of a length must be 0.
    pub fn step(&mut self, bytes: &[u8]) -> Result<usize, BadLength> {
        let mut at = 0;
        while self.left == 0 {
            let Some(byte) = bytes.get(at) else {
                return Ok(at);
            };
            at += 1;
            if let Some(place) = self.header.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            if self.have == self.header_length() {
                self.begin()?;
                if self.left == 0 {
                    return Ok(at);
                }
            }
        }
        let rest = bytes.len() - at;
        let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest);
        self.left -= here as u64;
        Ok(at + here)
    }

    /// Reads all of `bytes`.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn pass(&mut self, bytes: &[u8]) -> Result<(), BadLength> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.step(rest)?;
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// How long the header is, as far as its bytes tell.
    const fn header_length(&self) -> usize {
        let [_, second, ..] = self.header;
        if self.have < 2 {
            return 2;
        }
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        2 + extended + mask
    }

    /// The header is complete.
    fn begin(&mut self) -> Result<(), BadLength> {
        let [first, second, a, b, c, d, e, f, g, h, ..] = self.header;
        let length = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes([a, b])),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            short => u64::from(short),
        };
        if length > u64::MAX / 2 {
            return Err(BadLength);
        }
        match first & 0x0f {
            8 => self.closed = true,
            0..=7 => self.data = true,
            _ => {}
        }
        self.left = length;
        self.have = 0;
        Ok(())
    }
}

/// A close frame (RFC 6455 5.5.1); masked as a client must, unmasked as a server must (5.1).
#[must_use]
pub fn close(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let [high, low] = code.to_be_bytes();
    // 5.5: a control frame has at most 125 bytes.
    let reason = reason.bytes().take(123);
    let payload: Vec<u8> = [high, low].into_iter().chain(reason).collect();
    let length = u8::try_from(payload.len()).unwrap_or(125);
    let mut frame = vec![0x88, length | if mask.is_some() { 0x80 } else { 0 }];
    match mask {
        None => frame.extend_from_slice(&payload),
        Some(mask) => {
            frame.extend_from_slice(&mask);
            let masked = payload.iter().zip(mask.iter().cycle());
            frame.extend(masked.map(|(byte, key)| byte ^ key));
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, masked: bool, length: usize) -> Vec<u8> {
        let bit = if masked { 0x80 } else { 0 };
        let mut frame = vec![opcode];
        match length {
            0..=125 => frame.push(bit | u8::try_from(length).unwrap()),
            126..=65_535 => {
                frame.push(bit | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(bit | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([1, 2, 3, 4]);
        }
        frame.extend(std::iter::repeat_n(0x88, length));
        frame
    }

    #[test]
    fn a_close_is_known_and_an_endless_frame_refused() {
        let mut frames = Frames::new();
        frames
            .pass(&close(1008, "session-ended", Some([9, 8, 7, 6])))
            .unwrap();
        assert!(frames.at_boundary() && frames.is_closed() && !frames.take_data());
        let mut frames = Frames::new();
        assert_eq!(
            frames.pass(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            Err(BadLength)
        );
    }

    proptest! {
        #[test]
        fn frames_end_where_they_end(
            sent in proptest::collection::vec((0_u8..16, any::<bool>(), prop_oneof![0_usize..200, 65_500..65_600_usize]), 1..12),
            cuts in proptest::collection::vec(1_usize..70_000, 1..60),
        ) {
            let frames: Vec<Vec<u8>> =
                sent.iter().map(|(opcode, masked, length)| frame(*opcode, *masked, *length)).collect();
            let bytes = frames.concat();
            let mut ends = Vec::new();
            let mut end = 0;
            for one in &frames {
                end += one.len();
                ends.push(end);
            }
            // In pieces of any size, each frame's end is found and nothing else.
            let mut reader = Frames::new();
            let (mut at, mut found, mut cuts) = (0, Vec::new(), cuts.into_iter().cycle());
            while at < bytes.len() {
                let piece = &bytes[at..(at + cuts.next().unwrap()).min(bytes.len())];
                let mut rest = piece;
                while !rest.is_empty() {
                    let taken = reader.step(rest).unwrap();
                    prop_assert!(taken > 0);
                    at += taken;
                    rest = &rest[taken..];
                    if reader.at_boundary() {
                        found.push(at);
                    }
                }
            }
            prop_assert_eq!(found, ends);
            prop_assert_eq!(reader.is_closed(), sent.iter().any(|(opcode, ..)| *opcode == 8));
        }

        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut frames = Frames::new();
            let read = frames.pass(&bytes);
            prop_assert!(read.is_ok() || !frames.at_boundary());
        }
    }
}
