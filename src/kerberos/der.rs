//! The little DER (X.690) that SPNEGO framing and the KDC probe need: definite lengths, one-byte tags.
//!
//! In come bytes from a KDC or from a backend, so every read is bounded and nothing is assumed.

/// One element: `tag`, length, `content`.
pub(super) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    out.push(tag);
    let length = content.len();
    if let Ok(short) = u8::try_from(length)
        && short < 0x80
    {
        out.push(short);
    } else {
        let bytes: Vec<u8> = length
            .to_be_bytes()
            .into_iter()
            .skip_while(|byte| *byte == 0)
            .collect();
        out.push(0x80 | u8::try_from(bytes.len()).unwrap_or(8));
        out.extend(bytes);
    }
    out.extend_from_slice(content);
    out
}

/// How long an element with that much content is.
pub(super) fn sized(content: usize) -> usize {
    content
        + match content {
            0..0x80 => 2,
            0x80..0x100 => 3,
            0x100..0x1_0000 => 4,
            _ => 5,
        }
}

/// Writes an element's tag and length.
pub(super) fn head(out: &mut Vec<u8>, tag: u8, content: usize) {
    let [.., a, b, c] = content.to_be_bytes();
    out.push(tag);
    match content {
        0..0x80 => out.push(c),
        0x80..0x100 => out.extend_from_slice(&[0x81, c]),
        0x100..0x1_0000 => out.extend_from_slice(&[0x82, b, c]),
        _ => out.extend_from_slice(&[0x83, a, b, c]),
    }
}

/// One element around several parts.
pub(super) fn wrap(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(tag, &parts.concat())
}

/// A non-negative INTEGER.
pub(super) fn integer(value: u32) -> Vec<u8> {
    let mut bytes: Vec<u8> = value
        .to_be_bytes()
        .into_iter()
        .skip_while(|byte| *byte == 0)
        .collect();
    if bytes.first().is_none_or(|first| *first >= 0x80) {
        bytes.insert(0, 0);
    }
    tlv(0x02, &bytes)
}

/// An element's tag, its content, and what follows it.
pub(super) type Element<'a> = (u8, &'a [u8], &'a [u8]);

/// Splits the first element off `input`.
pub(super) fn split(input: &[u8]) -> Option<Element<'_>> {
    let (tag, rest) = input.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        // Nothing we read is longer than 16 MiB, and indefinite lengths are BER, not DER.
        if !(1..=3).contains(&count) {
            return None;
        }
        let (bytes, rest) = rest.split_at_checked(count)?;
        let length = bytes
            .iter()
            .fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
        (length, rest)
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((*tag, content, after))
}

/// The content of `input`'s first element, if it has this tag.
pub(super) fn expect(tag: u8, input: &[u8]) -> Option<&[u8]> {
    split(input).and_then(|(found, content, _)| (found == tag).then_some(content))
}

/// The content of the first element with this tag among the elements of `input`.
pub(super) fn find(tag: u8, mut input: &[u8]) -> Option<&[u8]> {
    while let Some((found, content, after)) = split(input) {
        if found == tag {
            return Some(content);
        }
        input = after;
    }
    None
}

/// An INTEGER's content as a number, if it is small.
pub(super) fn number(content: &[u8]) -> Option<i64> {
    if content.is_empty() || content.len() > 8 {
        return None;
    }
    let sign = if content.first().is_some_and(|first| *first >= 0x80) {
        -1_i64
    } else {
        0
    };
    Some(
        content
            .iter()
            .fold(sign, |sum, byte| (sum << 8) | i64::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_every_size_survive_both_directions() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7_u8; length];
            let element = tlv(0x04, &content);
            assert_eq!(split(&element), Some((0x04, content.as_slice(), &[][..])));
        }
    }

    #[test]
    fn a_lying_length_is_no_element() {
        for bad in [
            &[0x04, 5, 1, 2][..],
            &[0x04, 0x80, 0, 0],
            &[0x04, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x04, 0x82, 1],
            &[0x04],
            &[],
        ] {
            assert_eq!(split(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn integers_keep_their_sign() {
        assert_eq!(integer(0), [2, 1, 0]);
        assert_eq!(integer(200), [2, 2, 0, 200]);
        assert_eq!(number(&[0xff]), Some(-1));
        assert_eq!(number(&[0, 200]), Some(200));
        assert_eq!(number(&[]), None);
    }
}
