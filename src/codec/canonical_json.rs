//! JSON as TUF metadata has it: read strictly, and written in its canonical form, over which signatures are made.
//!
//! The canonical form is that of OLPC, as the reference implementation of TUF writes it: no white space, members sorted
//! by their names, integers only, and in strings a backslash before quotes and backslashes and nothing else escaped.
//! It is not quite JSON, since control characters stand in it as they are; it is signed and never read.

use super::DecodeError;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::cell::Cell;
use std::fmt;

/// Reads a JSON text of at most `most` values: what canonical JSON cannot say (numbers that are no integers of 64 bits,
/// members that come twice) is refused, and so is anything behind the end.
pub fn parse(bytes: &[u8], most: usize) -> Result<Value, DecodeError> {
    let left = Cell::new(most);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { left: &left }.deserialize(&mut reader);
    let value = value.and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| DecodeError::Malformed(error.to_string()))
}

/// The canonical form of a value; nothing if it holds a number that has none.
pub fn canonical(value: &Value) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    Some(out)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Option<()> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) if number.is_f64() => return None,
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            // A map may keep another order. That of bytes in UTF-8 is that of characters.
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            out.push(b'{');
            for (at, (name, value)) in members.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_text(name, out);
                out.push(b':');
                write(value, out)?;
            }
            out.push(b'}');
        }
    }
    Some(())
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Reads one value, and counts it.
#[derive(Clone, Copy)]
struct Strict<'a> {
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.left.get().checked_sub(1).ok_or_else(|| D::Error::custom("too many values"))?;
        self.left.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of canonical JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Err(E::custom(format_args!("{value} is no integer of 64 bits")))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self)? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if members.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the member {name:?} comes twice")));
            }
            let value = access.next_value_seed(self)?;
            members.insert(name, value);
        }
        Ok(members.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn form(text: &str) -> String {
        String::from_utf8(canonical(&parse(text.as_bytes(), 1000).unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn the_form_is_that_of_the_reference_implementation() {
        // Made with securesystemslib 1.6.0, formats.encode_canonical.
        for (text, expected) in [
            (r#"{"y" : 2, "x" : 3}"#, r#"{"x":3,"y":2}"#),
            (r#"[ true, false, null, -7, 18446744073709551615 ]"#, r#"[true,false,null,-7,18446744073709551615]"#),
            (r#"{"a\"b":"c\\d","A":[],"":{}}"#, r#"{"":{},"A":[],"a\"b":"c\\d"}"#),
            (r#""\n\t\u0001\/""#, "\"\n\t\u{1}/\""),
            (
                r#"{"\u00e9":1,"z":2,"\ud83d\ude00":3,"\uffff":4}"#,
                "{\"z\":2,\"\u{e9}\":1,\"\u{ffff}\":4,\"\u{1f600}\":3}",
            ),
        ] {
            assert_eq!(form(text), expected, "{text}");
        }
    }

    #[test]
    fn what_two_readers_could_take_differently_is_refused() {
        for bad in [
            "",
            "1.0",
            "1e3",
            "-0",
            "18446744073709551616",
            "-9223372036854775809",
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":1,"\u0062":2}}"#,
            "[1] 2",
            "[1,]",
            "{1:2}",
            "NaN",
            "\"\n\"",
            "\"\\ud800\"",
            "\"\u{0}\"",
        ] {
            assert!(parse(bad.as_bytes(), 1000).is_err(), "{bad:?}");
        }
        assert!(parse(b"\"\xff\"", 10).is_err());
        assert!(parse("[".repeat(100_000).as_bytes(), usize::MAX).is_err(), "depth is bounded");
        assert!(parse(b"[1,2,3]", 4).is_ok() && parse(b"[1,2,3]", 3).is_err());
        assert_eq!(canonical(&serde_json::json!([1.5])), None);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_and_has_the_same_form(value in any_value()) {
            let text = serde_json::to_vec_pretty(&value).unwrap();
            let back = parse(&text, 10_000).unwrap();
            prop_assert_eq!(&back, &value);
            prop_assert_eq!(canonical(&back), canonical(&value));
        }
    }
}
