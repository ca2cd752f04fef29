//! WebSocket frames: the same boundaries however the bytes arrive, always progress, and our own close frame is one frame.
#![no_main]

use kerbgate_fuzz::forward::frames::Frames;
use kerbgate_fuzz::forward::frames::close;
use libfuzzer_sys::fuzz_target;

fn read<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Option<(bool, bool, bool)> {
    let mut frames = Frames::new();
    for part in parts {
        frames.pass(part).ok()?;
    }
    Some((frames.at_boundary(), frames.is_closed(), frames.take_data()))
}

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let whole = read(std::iter::once(bytes));
    assert_eq!(whole, read(bytes.chunks(usize::from(cut).max(1))));
    assert_eq!(whole, read(bytes.chunks(1)));
    let mut frames = Frames::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let Ok(taken) = frames.step(rest) else { return };
        assert!(taken > 0 && taken <= rest.len());
        rest = &rest[taken..];
        if frames.at_boundary() {
            break;
        }
    }
    let reason = String::from_utf8_lossy(bytes);
    for mask in [None, Some([cut, 1, 2, 3])] {
        let frame = close(1000 + u16::from(cut), &reason, mask);
        let mut own = Frames::new();
        assert_eq!(own.step(&frame), Ok(frame.len()));
        assert!(own.at_boundary() && own.is_closed());
    }
});
