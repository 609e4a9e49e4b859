//! The fields of a protobuf message and where they are, nothing decoded
//! (<https://protobuf.dev/programming-guides/encoding/>). `prost` decodes, but does not tell places.

/// One field of a message, with its number.
#[derive(Debug, PartialEq)]
pub(super) enum Field<'b> {
    /// Eight bytes, which begin at this place of the whole body.
    Fixed64(u32, usize),
    /// What may be a message, a string or bytes.
    Message(u32, Fields<'b>),
    /// Anything else.
    Other,
}

/// The fields of one message, one after the other; `None` where it is damaged or has a group, and then no more.
#[derive(Debug, PartialEq)]
pub(super) struct Fields<'b> {
    body: &'b [u8],
    at: usize,
    end: usize,
}

impl<'b> Fields<'b> {
    /// The fields of a message that is all of `body`.
    pub(super) fn of(body: &'b [u8]) -> Self {
        Self { body, at: 0, end: body.len() }
    }

    /// Where what is left of it is in the whole body.
    pub(super) fn range(&self) -> std::ops::Range<usize> {
        self.at..self.end
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.body[..self.end].get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// Passes over `length` bytes and tells where they begin.
    fn pass(&mut self, length: u64) -> Option<usize> {
        let begin = self.at;
        let end = begin.checked_add(usize::try_from(length).ok()?)?;
        self.at = end;
        (end <= self.end).then_some(begin)
    }

    fn field(&mut self) -> Option<Field<'b>> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok()?;
        Some(match key & 7 {
            0 => {
                self.varint()?;
                Field::Other
            }
            1 => Field::Fixed64(number, self.pass(8)?),
            2 => {
                let length = self.varint()?;
                let at = self.pass(length)?;
                Field::Message(number, Fields { body: self.body, at, end: self.at })
            }
            5 => {
                self.pass(4)?;
                Field::Other
            }
            _ => return None,
        })
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Option<Field<'b>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.at = self.end;
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_come_with_their_places() {
        // Field 1 a varint of two bytes, field 2 eight bytes, field 3 a message with a field 1 of four bytes.
        let body = [0x08, 0x80, 0x01, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x1a, 0x05, 0x0d, 1, 2, 3, 4];
        let found: Vec<_> = Fields::of(&body).collect();
        let inner = Fields { body: &body, at: 14, end: 19 };
        assert_eq!(found, [Some(Field::Other), Some(Field::Fixed64(2, 4)), Some(Field::Message(3, inner))]);
    }

    #[test]
    fn damage_ends_a_message() {
        for body in [&[0x08][..], &[0x11, 1, 2][..], &[0x1a, 0x05, 1][..], &[0x0b, 0x0c][..], &[0xff; 11][..]]
        {
            assert_eq!(Fields::of(body).collect::<Vec<_>>(), [None], "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end_within_themselves(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut last = 0;
            for field in Fields::of(&body).flatten() {
                let end = match field {
                    Field::Fixed64(_, at) => at + 8,
                    Field::Message(_, inner) => inner.end,
                    Field::Other => last,
                };
                prop_assert!(end >= last && end <= body.len());
                last = end;
            }
        }
    }
}
