//! `LoadMetadataPType`. An absent one is NEVER, as the official servers read it.

use super::WireError;
use crate::grpc::file::LoadMetadataPType;
use types::LoadMetadata;

/// Never for an absent field. Errors: an unknown number.
pub fn from_wire(number: Option<i32>) -> Result<LoadMetadata, WireError> {
    let Some(number) = number else { return Ok(LoadMetadata::Never) };
    Ok(match super::known(number, "the load type of metadata")? {
        LoadMetadataPType::Never => LoadMetadata::Never,
        LoadMetadataPType::Once => LoadMetadata::Once,
        LoadMetadataPType::Always => LoadMetadata::Always,
    })
}

/// The number of the official wire.
pub fn to_wire(load: LoadMetadata) -> i32 {
    i32::from(match load {
        LoadMetadata::Never => LoadMetadataPType::Never,
        LoadMetadata::Once => LoadMetadataPType::Once,
        LoadMetadata::Always => LoadMetadataPType::Always,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_and_absent_is_never() {
        for load in [LoadMetadata::Never, LoadMetadata::Once, LoadMetadata::Always] {
            assert_eq!(from_wire(Some(to_wire(load))), Ok(load));
        }
        assert_eq!(from_wire(None), Ok(LoadMetadata::Never));
        assert!(from_wire(Some(3)).is_err());
    }
}
