//! Which master leads: asked without a handshake.

use crate::shared::Shared;
use proto::grpc::version::service_version_client_service_server::ServiceVersionClientService;
use proto::grpc::version::{GetServiceVersionPRequest, GetServiceVersionPResponse};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Clients only ask whether there is one.
const VERSION: i64 = 1;

pub struct Version(pub Arc<Shared>);

#[tonic::async_trait]
impl ServiceVersionClientService for Version {
    async fn get_service_version(
        &self,
        request: Request<GetServiceVersionPRequest>,
    ) -> Result<Response<GetServiceVersionPResponse>, Status> {
        if self.0.leads() || request.into_inner().allowed_on_standby_masters() {
            return Ok(Response::new(GetServiceVersionPResponse { version: Some(VERSION) }));
        }
        Err(rpc::status(types::ErrorKind::NotFound, "this master does not lead; ask the next one".to_owned()))
    }
}
