//! Gives an unimplemented RPC its name.

use crate::routes::Answer;
use crate::status::status;
use tonic::Status;
use types::ErrorKind;

/// What a generated default method says.
const STUB: &[u8] = b"Not%20yet%20implemented";
/// UNIMPLEMENTED as a header has it.
const CODE: &[u8] = b"12";

/// Replaces the general text of an UNIMPLEMENTED answer by the RPC's full name and a sentence. A handler's own words
/// stay. Cost when there is nothing to do: one header lookup.
pub(crate) fn name_it(path: &str, answer: &mut Answer) {
    let headers = answer.headers();
    let unimplemented_here = headers.get(Status::GRPC_STATUS).is_some_and(|code| code.as_bytes() == CODE)
        && headers.get(Status::GRPC_MESSAGE).is_none_or(|message| message.as_bytes() == STUB);
    if unimplemented_here {
        *answer = unimplemented(path).into_http();
    }
}

/// The status for an RPC nobody serves here. `path` as in the request, `/package.Service/Method`.
pub(crate) fn unimplemented(path: &str) -> Status {
    let name = path.trim_start_matches('/');
    status(ErrorKind::Unimplemented, format!("{name} is not implemented by this server; the manual lists what is"))
}
