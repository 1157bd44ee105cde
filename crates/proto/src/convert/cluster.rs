//! Sixteen bytes that name something random: a cluster, a worker's identity. Big endian.

use super::WireError;
use types::ClusterId;

/// None for no bytes: a worker that never joined.
pub fn from_wire(bytes: &[u8]) -> Result<Option<ClusterId>, WireError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    identity(bytes, "the cluster's id").map(|id| Some(ClusterId(id)))
}

/// 16 bytes, or none for None.
pub fn to_wire(id: Option<ClusterId>) -> Vec<u8> {
    id.map_or_else(Vec::new, |id| id.0.to_be_bytes().to_vec())
}

/// Exactly 16 bytes; `what` names them in the error.
pub fn identity(bytes: &[u8], what: &'static str) -> Result<u128, WireError> {
    let bytes: [u8; 16] =
        bytes.try_into().map_err(|_| WireError::BadLength { what, bytes: bytes.len(), expected: 16 })?;
    Ok(u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lead_back() {
        for id in [None, Some(ClusterId(0)), Some(ClusterId(u128::MAX - 5))] {
            assert_eq!(from_wire(&to_wire(id)), Ok(id));
        }
        let error = from_wire(&[1; 15]).unwrap_err();
        assert_eq!(error.to_string(), "the cluster's id has 15 bytes, 16 are needed");
    }
}
