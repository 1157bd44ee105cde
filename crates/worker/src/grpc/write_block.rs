//! WriteBlock: a command, then chunks and flushes; half-closing commits, a reset discards.

use super::replies::{Replies, replies};
use super::service::Service;
use super::{block_of, status_of};
use crate::error::WorkerError;
use crate::write::{BlockWrite, StoreWrite};
use bytes::Bytes;
use http::Request;
use http_body::Body;
use proto::grpc::block::write_request::Value;
use proto::grpc::block::{RequestType, WriteRequest, WriteRequestCommand};
use rpc::block::Requests;
use rpc::{Answer, MAX_MESSAGE_BYTES};
use std::fmt::Display;
use std::sync::Arc;
use tonic::Status;
use types::{MountId, Principal};

/// Turns given to the connection between the client's end and the commit.
const GIVE_UP_LOOKS: usize = 2;

type Messages<B> = Requests<WriteRequest, B>;

/// Serves one stream, in a task of its own: what it commits it finishes even if the client leaves meanwhile.
pub async fn serve<B>(service: Arc<Service>, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Display,
{
    let who = match rpc::caller(request.extensions()) {
        Ok(who) => Principal::clone(who),
        Err(refused) => return refused.into_http(),
    };
    let (mut replies, answer) = replies();
    let messages = Messages::new(request.into_body(), MAX_MESSAGE_BYTES);
    let tasks = service.tasks.clone();
    tasks.spawn(async move {
        let _active = Active::new(&service);
        let end = match take(&service, who, messages, &mut replies).await {
            Ok(()) => Status::ok(""),
            Err(error) => {
                service.writes.metrics.write_cancels.inc();
                tracing::debug!(error = %error.sentence(), "write stream ended without a commit");
                status_of(&error)
            }
        };
        replies.finish(end).await;
    });
    answer.await
}

struct Active(Arc<Service>);

impl Active {
    fn new(service: &Arc<Service>) -> Active {
        service.writes.metrics.active_writes.inc();
        Active(Arc::clone(service))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.writes.metrics.active_writes.dec();
    }
}

async fn take<B>(
    service: &Arc<Service>,
    who: Principal,
    mut messages: Messages<B>,
    replies: &mut Replies,
) -> Result<(), WorkerError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    let first = next(&mut messages, "before its first command").await?;
    let Some(Value::Command(command)) = first else {
        return Err(WorkerError::Invalid("a write stream begins with a command; send it before any data".into()));
    };
    if command.offset.unwrap_or_default() != 0 {
        return Err(WorkerError::Invalid("a write stream begins at offset 0; blocks are written once, whole".into()));
    }
    let kind = command.r#type.unwrap_or_default();
    match RequestType::try_from(kind) {
        Ok(RequestType::GoosefsBlock) => block(service, who, &command, messages, replies).await,
        Ok(RequestType::UfsFile) => store_file(service, who, command, messages, replies).await,
        Ok(RequestType::UfsFallbackBlock) | Err(_) => Err(WorkerError::Invalid(format!(
            "write streams of type {kind} are not served; write a block or a store file"
        ))),
    }
}

async fn block<B>(
    service: &Arc<Service>,
    who: Principal,
    command: &WriteRequestCommand,
    mut messages: Messages<B>,
    replies: &mut Replies,
) -> Result<(), WorkerError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    let id = block_of(command.id)?;
    let mut write = BlockWrite::open(Arc::clone(&service.writes), who, id).await?;
    loop {
        match next(&mut messages, &format!("while it wrote {id}")).await? {
            Some(Value::Chunk(chunk)) => write.append(chunk.data.unwrap_or_default()).await?,
            Some(Value::Command(command)) if command.flush == Some(true) => replies.offset(write.flush().await?).await,
            Some(Value::Command(_)) => return Err(only_flush()),
            None => break,
        }
    }
    if gave_up(replies).await {
        return Err(WorkerError::Cancelled { what: format!("while it wrote {id}") });
    }
    let length = write.commit().await?;
    replies.offset(length).await;
    Ok(())
}

async fn store_file<B>(
    service: &Arc<Service>,
    who: Principal,
    command: WriteRequestCommand,
    mut messages: Messages<B>,
    replies: &mut Replies,
) -> Result<(), WorkerError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    let missing = || WorkerError::Invalid("a store file's stream names its place in create_ufs_file_options".into());
    let options = command.create_ufs_file_options.ok_or_else(missing)?;
    let path = options.ufs_path.ok_or_else(missing)?;
    let mount = MountId(options.mount_id.unwrap_or_default().cast_unsigned());
    let mut write = StoreWrite::open(Arc::clone(&service.writes), who, mount, &path).await?;
    loop {
        let message = match next(&mut messages, &format!("while it wrote {path}")).await {
            Ok(message) => message,
            Err(error) => {
                write.abort().await;
                return Err(error);
            }
        };
        match message {
            Some(Value::Chunk(chunk)) => {
                if let Err(error) = write.append(chunk.data.unwrap_or_default()).await {
                    write.abort().await;
                    return Err(error);
                }
            }
            Some(Value::Command(command)) if command.flush == Some(true) => replies.offset(write.flush()).await,
            Some(Value::Command(_)) => {
                write.abort().await;
                return Err(only_flush());
            }
            None => break,
        }
    }
    if gave_up(replies).await {
        write.abort().await;
        return Err(WorkerError::Cancelled { what: format!("while it wrote {path}") });
    }
    let length = write.commit().await?;
    replies.offset(length).await;
    Ok(())
}

/// Whether a reset came right behind the end of the client's half: official clients that cancel after a flush end it
/// first. What has arrived is looked at, nothing is waited for.
async fn gave_up(replies: &Replies) -> bool {
    for _ in 0..GIVE_UP_LOOKS {
        tokio::task::yield_now().await;
    }
    replies.is_gone()
}

fn only_flush() -> WorkerError {
    WorkerError::Invalid("only flush commands may follow the first one of a write stream".into())
}

/// The next message; None at an orderly end. A reset is an error, never an end.
async fn next<B>(messages: &mut Messages<B>, when: &str) -> Result<Option<Value>, WorkerError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    loop {
        match messages.next().await {
            Ok(Some(message)) => match message.value {
                Some(value) => return Ok(Some(value)),
                None => continue,
            },
            Ok(None) => return Ok(None),
            Err(broken) if broken.code() == tonic::Code::Cancelled => {
                return Err(WorkerError::Cancelled { what: when.to_owned() });
            }
            Err(broken) => return Err(WorkerError::Invalid(broken.message().to_owned())),
        }
    }
}
