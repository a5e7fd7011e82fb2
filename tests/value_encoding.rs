//! Values keep their bytes: encoding and decoding undo each other, and no bytes make decoding panic.
//!
//! Method: random values for the round trip; for decoding, random bytes from a small alphabet (most of which are tags
//! and small lengths, so that they get past the first byte) and honest bytes that were changed or cut. A failure prints
//! its case, made as small as it still fails.
#![forbid(unsafe_code)]

use proptest::prelude::*;
use unlatched::{Error, Value};

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = vec![0xAA; value.encoded_len()];
    value.encode(&mut bytes);
    bytes
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::I64),
        // Not-a-number is not equal to itself; it has a test of its own.
        any::<f64>()
            .prop_filter("comparable", |number| !number.is_nan())
            .prop_map(Value::F64),
        any::<String>().prop_map(Value::String),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(5, 60, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
            prop::collection::hash_map(any::<String>(), inner, 0..20).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(value in any_value()) {
        let bytes = encoded(&value);
        prop_assert_eq!(Value::decode(&bytes).expect("what encode wrote"), value);
    }

    /// Whatever decodes encodes to the very same bytes, and nothing panics.
    #[test]
    fn random_bytes_are_refused_or_canonical(bytes in prop::collection::vec(0_u8..12, 0..80)) {
        if let Ok(value) = Value::decode(&bytes) {
            prop_assert_eq!(encoded(&value), bytes);
        }
    }

    /// The same of honest bytes in which a few were changed, or which were cut short.
    #[test]
    fn damaged_bytes_are_refused_or_canonical(
        value in any_value(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encoded(&value);
        bytes.truncate(cut.index(bytes.len()) + 1);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        match Value::decode(&bytes) {
            Ok(value) => prop_assert_eq!(encoded(&value), bytes),
            Err(Error::InvalidValue { offset, .. }) => prop_assert!(offset <= bytes.len()),
            Err(other) => prop_assert!(false, "unexpected error {}", other),
        }
    }
}
