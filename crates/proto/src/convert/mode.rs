//! `PMode`: three groups of rwx bits, each as a number one above the bits. It has no room for the sticky bit.

use super::WireError;
use crate::grpc::{Bits, PMode};
use types::Mode;

/// Permission bits up to 0777. Errors: an unknown number in any of the three.
pub fn from_wire(mode: &PMode) -> Result<Mode, WireError> {
    let owner = class(mode.owner_bits, "the owner's bits")?;
    let group = class(mode.group_bits, "the group's bits")?;
    let other = class(mode.other_bits, "the others' bits")?;
    Ok(Mode::new(owner << 6 | group << 3 | other))
}

fn class(number: i32, what: &'static str) -> Result<u16, WireError> {
    Ok(match super::known(number, what)? {
        Bits::None => 0,
        Bits::Execute => 1,
        Bits::Write => 2,
        Bits::WriteExecute => 3,
        Bits::Read => 4,
        Bits::ReadExecute => 5,
        Bits::ReadWrite => 6,
        Bits::All => 7,
    })
}

/// Without the bits above 0777.
pub fn to_wire(mode: Mode) -> PMode {
    let number = |bits: u8| i32::from(bits) + 1;
    PMode { owner_bits: number(mode.owner()), group_bits: number(mode.group()), other_bits: number(mode.other()) }
}

/// A mode sent as a plain number (`CreateUfsFileOptions.mode`, `FileInfo.mode`, our internal messages): 0 to 07777.
pub fn from_number(number: i64) -> Result<Mode, WireError> {
    match u16::try_from(number) {
        Ok(bits) if bits <= 0o7777 => Ok(Mode::new(bits)),
        Ok(_) | Err(_) => Err(WireError::BadNumber { what: "file mode", number, rule: "modes are 0 to 07777" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_leads_back() {
        for bits in 0..=0o777 {
            assert_eq!(from_wire(&to_wire(Mode::new(bits))), Ok(Mode::new(bits)));
        }
        let default = PMode { owner_bits: 7, group_bits: 5, other_bits: 5 };
        assert_eq!(from_wire(&default), Ok(Mode::new(0o644)), "what the official clients send for a file");
        assert_eq!(to_wire(Mode::new(0o1777)), to_wire(Mode::new(0o777)), "no room for the sticky bit");
    }

    #[test]
    fn unknown_bits_are_refused() {
        let error = from_wire(&PMode { owner_bits: 7, group_bits: 9, other_bits: 5 }).unwrap_err();
        assert!(error.to_string().contains("9 for the group's bits"), "{error}");
        assert!(from_wire(&PMode { owner_bits: 0, group_bits: 1, other_bits: 1 }).is_err());
        assert_eq!(from_number(0o1755), Ok(Mode::new(0o1755)));
        assert!(from_number(0o10000).is_err());
        assert!(from_number(-1).is_err());
    }
}
