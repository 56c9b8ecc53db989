//! A signature as a value and as text.

use super::TrustError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// An Ed25519 signature. Shown as base64, as the service manifest has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl Signature {
    /// Reads standard base64, with padding; white space around it is ignored.
    pub fn parse(text: &str) -> Result<Self, TrustError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|error| TrustError::Malformed(error.to_string()))?;
        let length = bytes.len();
        let bytes = bytes.try_into().map_err(|_| TrustError::Malformed(format!("{length} bytes instead of 64")))?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_64_bytes_in_base64_and_nothing_else() {
        let signature = Signature(std::array::from_fn(|at| at as u8));
        let text = signature.to_string();
        assert_eq!(Signature::parse(&format!(" {text}\n")), Ok(signature));
        assert!(matches!(Signature::parse("aGVsbG8="), Err(TrustError::Malformed(_))));
        assert!(matches!(Signature::parse(&text.replace('=', "")), Err(TrustError::Malformed(_))));
        assert!(matches!(Signature::parse(&text.replace('A', "-")), Err(TrustError::Malformed(_))));
        assert!(matches!(Signature::parse(""), Err(TrustError::Malformed(_))));
    }
}
