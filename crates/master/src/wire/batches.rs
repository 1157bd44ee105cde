//! goosefs.v1.Batches: many changes in one request, for clients of our own.
//!
//! Is:     the adapter: messages in, one batch for the core, an outcome for each item out.
//! Owns:   how large a request may be.
//! Never:  lets one item decide about another.

use super::caller;
use super::file_system::FileSystem;
use crate::error::Error;
use crate::holds::Hold;
use futures::stream::{self, StreamExt};
use meta::{BATCH_ITEMS, BatchItem, BatchOp, CompleteFile, CreateDirectory, CreateFile, Done, Remove};
use prost::Message;
use proto::admin::batch_item::Change;
use proto::admin::batches_server;
use proto::admin::{BatchOutcome, BatchRequest, BatchResponse};
use proto::convert;
use proto::grpc::file::FileInfo;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};
use types::{GfsPath, Mode, OperationId, Principal};

/// Longest request; its entry in the log is about as long, and stays far below the longest there.
const REQUEST_BYTES: usize = 1 << 20;
/// Items looked up in their stores at once.
const LOOKS: usize = 64;
/// After so many items other connections of this thread have their turn.
const BREATH: u32 = 64;

#[derive(Clone)]
pub struct Batches(pub FileSystem);

/// One item as the core will have it, and what only concerns the look at its store.
struct Wish {
    op: BatchOp,
    unchecked: bool,
}

/// One that saw what its store has, which does not expire meanwhile.
type Looked = (BatchOp, Hold);

#[tonic::async_trait]
impl batches_server::Batches for Batches {
    async fn apply(&self, request: Request<BatchRequest>) -> Result<Response<BatchResponse>, Status> {
        let who = caller(&request)?;
        let request = request.into_inner();
        check_size(&request)?;
        let operation = request.operation.map(convert::operation_id::from_admin);
        let operation = operation.ok_or_else(|| {
            Error::Invalid("the batch lacks an operation id, by which a repeat has each change once".to_owned())
        })?;
        self.0.handle.shared.must_lead()?;
        self.0.handle.shared.check_batches()?;
        let wishes =
            request.items.into_iter().zip(0..).map(|(item, number)| (number, wish(item, self.persist_delay())));
        let results = Box::pin(self.apply_all(who, operation, wishes.collect())).await?;
        let mut outcomes = Vec::with_capacity(results.len());
        for result in results {
            outcomes.push(outcome(result)?);
        }
        Ok(Response::new(BatchResponse { outcomes }))
    }
}

impl Batches {
    fn persist_delay(&self) -> Duration {
        self.0.handle.shared.config.persist_delay
    }

    /// What became of each, in order. Errors: those of this master, which are better asked again as a whole.
    async fn apply_all(
        &self,
        who: Arc<Principal>,
        operation: OperationId,
        wishes: Vec<(u32, Result<Wish, Error>)>,
    ) -> Result<Vec<Result<Option<FileInfo>, Error>>, Error> {
        let look = |(number, wish): (u32, Result<Wish, Error>)| {
            let (this, who) = (self.clone(), who.clone());
            async move {
                let looked = async {
                    if number.is_multiple_of(BREATH) {
                        tokio::task::yield_now().await;
                    }
                    let wish = wish?;
                    let hold = this.look(&who, operation.of_item(number), &wish).await?;
                    Ok((wish.op, hold))
                };
                (number, looked.await)
            }
        };
        let looked = stream::iter(wishes).map(look);
        let looked: Vec<(u32, Result<Looked, Error>)> = looked.buffered(LOOKS).collect().await;
        let (mut results, mut items, mut holds) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (number, looked) in looked {
            match looked {
                Ok((op, hold)) => {
                    items.push(BatchItem { number, op });
                    holds.push(hold);
                }
                Err(err) => drop(results.insert(number, Err(err))),
            }
        }
        let done = self.0.handle.submit_batch(&who, operation, items.clone()).await?;
        drop(holds);
        let end = |(item, done): (BatchItem, Result<Done, Error>)| {
            let (this, who) = (self.clone(), who.clone());
            async move {
                let number = item.number;
                if number.is_multiple_of(BREATH) {
                    tokio::task::yield_now().await;
                }
                (number, this.end(&who, operation, item, done).await)
            }
        };
        let ends = stream::iter(items.into_iter().zip(done)).map(end);
        results.extend(ends.buffered(LOOKS).collect::<Vec<_>>().await);
        results.into_values().map(|result| result.map_or_else(whole, |info| Ok(Ok(info)))).collect()
    }

    /// Makes sure that the change will see what the store has.
    async fn look(&self, who: &Principal, operation: OperationId, wish: &Wish) -> Result<Hold, Error> {
        match &wish.op {
            BatchOp::CreateFile(CreateFile { path, .. }) | BatchOp::CreateDirectory(CreateDirectory { path, .. }) => {
                self.0.prepare(who, Some(operation), path).await
            }
            BatchOp::Remove(op) => self.0.look_before_removing(who, Some(operation), op, wish.unchecked).await,
            BatchOp::CompleteFile(_) => Ok(Hold::none()),
        }
    }

    /// What is told of an item; what has to be asked again because it was moved above it is.
    async fn end(
        &self,
        who: &Principal,
        operation: OperationId,
        item: BatchItem,
        done: Result<Done, Error>,
    ) -> Result<Option<FileInfo>, Error> {
        let is_file = matches!(item.op, BatchOp::CreateFile(_));
        let path = item.op.path().clone();
        let done = match done {
            Err(Error::Moved) => {
                self.0.submit_new(who, Some(operation.of_item(item.number)), &path, item.op.into()).await?
            }
            done => done?,
        };
        if let (Done::Inode(inode), true) = (done, is_file) {
            return self.0.info_of(who, &path, inode).await.map(Some);
        }
        Ok(None)
    }
}

fn check_size(request: &BatchRequest) -> Result<(), Error> {
    let (items, bytes) = (request.items.len(), request.encoded_len());
    if items > BATCH_ITEMS || bytes > REQUEST_BYTES {
        let why = format!(
            "a batch of {items} items and {bytes} bytes is too large, at most {BATCH_ITEMS} and {REQUEST_BYTES} are taken; \
             send several"
        );
        return Err(Error::Invalid(why));
    }
    Ok(())
}

fn wish(item: proto::admin::BatchItem, least_persist_delay: Duration) -> Result<Wish, Error> {
    let path = GfsPath::parse(&item.path).map_err(|err| Error::Rejected(err.into()))?;
    let change = item.change.ok_or_else(|| Error::Invalid(format!("what to do with {path} is not said")))?;
    let mut unchecked = false;
    let op = match change {
        Change::CreateFile(create) => BatchOp::CreateFile(CreateFile {
            path,
            block_bytes: create.block_bytes,
            recursive: create.recursive,
            mode: mode(create.mode)?,
            write_type: convert::write_type::from_wire(Some(create.write_type))?,
        }),
        Change::CompleteFile(complete) => BatchOp::CompleteFile(CompleteFile {
            path,
            file: super::file_system::file_id(Some(complete.file))?,
            length: complete.length,
            checksum: super::file_system::checksum(complete.crc_type, i64::from(complete.crc_value))?,
            locations: Vec::new(),
            persist_after_ms: complete
                .persist_wait_ms
                .and_then(|wait| super::file_system::persist_delay(wait, least_persist_delay)),
            force_persisted: false,
        }),
        Change::CreateDirectory(create) => BatchOp::CreateDirectory(CreateDirectory {
            path,
            recursive: create.recursive,
            allow_exists: create.allow_exists,
            mode: mode(create.mode)?,
        }),
        Change::Remove(remove) => {
            unchecked = remove.unchecked;
            BatchOp::Remove(Remove { path, recursive: remove.recursive, goosefs_only: remove.goosefs_only })
        }
    };
    Ok(Wish { op, unchecked })
}

fn mode(bits: u32) -> Result<Mode, Error> {
    Ok(convert::mode::from_number(i64::from(bits))?)
}

/// Lifts what is not about the item alone.
fn whole<T>(err: Error) -> Result<Result<T, Error>, Error> {
    if err.is_of_this_master() { Err(err) } else { Ok(Err(err)) }
}

fn outcome(result: Result<Option<FileInfo>, Error>) -> Result<BatchOutcome, Status> {
    Ok(match result {
        Ok(file) => BatchOutcome { code: 0, message: String::new(), file },
        Err(err) => {
            let status = Status::from(err);
            BatchOutcome { code: status.code().into(), message: status.message().to_owned(), file: None }
        }
    })
}
