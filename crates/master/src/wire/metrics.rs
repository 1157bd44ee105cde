//! MetricsMasterClientService: what clients report, and what the master shows of it.

use super::caller;
use crate::shared::Shared;
use proto::grpc::MetricType;
use proto::grpc::metric::metrics_master_client_service_server::MetricsMasterClientService;
use proto::grpc::metric::*;
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub struct ClientMetrics(pub Arc<Shared>);

#[tonic::async_trait]
impl MetricsMasterClientService for ClientMetrics {
    async fn metrics_heartbeat(
        &self,
        request: Request<MetricsHeartbeatPRequest>,
    ) -> Result<Response<MetricsHeartbeatPResponse>, Status> {
        self.0.must_lead()?;
        let options = request.into_inner().options.unwrap_or_default();
        for metric in options.client_metrics.iter().flat_map(|client| &client.metrics) {
            let counts = metric.metric_type == MetricType::Counter as i32;
            if let (true, Some(name), Some(value)) = (counts, &metric.name, metric.value) {
                self.0.metrics.add_client(name, value);
            }
        }
        Ok(Response::new(MetricsHeartbeatPResponse {}))
    }

    async fn get_metrics(&self, request: Request<GetMetricsPOptions>) -> Result<Response<GetMetricsPResponse>, Status> {
        caller(&request)?;
        self.0.must_lead()?;
        let value = |(name, value)| {
            (
                name,
                MetricValue {
                    double_value: Some(value),
                    metric_type: Some(MetricType::Gauge as i32),
                    ..Default::default()
                },
            )
        };
        let metrics = crate::metrics::values(&self.0).into_iter().map(value).collect();
        Ok(Response::new(GetMetricsPResponse { metrics }))
    }

    async fn clear_metrics(
        &self,
        request: Request<ClearMetricsPRequest>,
    ) -> Result<Response<ClearMetricsPResponse>, Status> {
        let who = self.0.authority.caller(&*caller(&request)?);
        who.check_superuser("clear metrics").map_err(crate::error::Error::from)?;
        self.0.metrics.clear_clients();
        Ok(Response::new(ClearMetricsPResponse {}))
    }
}
