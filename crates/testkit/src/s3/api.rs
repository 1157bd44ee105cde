//! The S3 operations, each as short as the index and the blobs allow.

use super::Store;
use super::blob::{Blob, blocking};
use super::condition::{Conditions, check_write, etag, modified};
use super::index::{Headers, Index, Object as Stored, Upload};
use super::list::{self, After, MAX_KEYS};
use futures::StreamExt;
use s3s::checksum::ChecksumHasher;
use s3s::dto::*;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What S3 accepts as the number of a part.
const PART_NUMBERS: std::ops::RangeInclusive<i32> = 1..=10_000;

// The same fields stand in the inputs of several operations, which share no type.
macro_rules! headers_of {
    ($input:ident) => {
        Headers {
            content_type: $input.content_type,
            content_encoding: $input.content_encoding,
            content_disposition: $input.content_disposition,
            content_language: $input.content_language,
            cache_control: $input.cache_control,
            user: $input.metadata.into_iter().flatten().collect(),
        }
    };
}
macro_rules! conditions_of {
    ($input:ident) => {
        Conditions {
            if_match: $input.if_match,
            if_none_match: $input.if_none_match,
            if_modified_since: $input.if_modified_since,
            if_unmodified_since: $input.if_unmodified_since,
        }
    };
}
macro_rules! conditions_of_source {
    ($input:ident) => {
        Conditions {
            if_match: $input.copy_source_if_match,
            if_none_match: $input.copy_source_if_none_match,
            if_modified_since: $input.copy_source_if_modified_since,
            if_unmodified_since: $input.copy_source_if_unmodified_since,
        }
    };
}
macro_rules! promised_of {
    ($input:ident) => {
        Promised {
            md5: $input.content_md5,
            sums: Checksum {
                checksum_crc32: $input.checksum_crc32,
                checksum_crc32c: $input.checksum_crc32c,
                checksum_crc64nvme: $input.checksum_crc64nvme,
                checksum_sha1: $input.checksum_sha1,
                checksum_sha256: $input.checksum_sha256,
                ..Default::default()
            },
        }
    };
}

pub(super) struct Api(pub(super) Arc<Store>);

#[async_trait::async_trait]
impl S3 for Api {
    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        if !self.0.index.lock().create_bucket(&req.input.bucket).map_err(broken)? {
            return Err(s3_error!(BucketAlreadyOwnedByYou));
        }
        answer(CreateBucketOutput::default())
    }

    async fn delete_bucket(&self, req: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        let mut index = self.0.index.lock();
        check_bucket(&index, &req.input.bucket)?;
        if !index.drop_bucket(&req.input.bucket).map_err(broken)? {
            return Err(s3_error!(BucketNotEmpty));
        }
        answer(DeleteBucketOutput::default())
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        check_bucket(&self.0.index.lock(), &req.input.bucket)?;
        answer(HeadBucketOutput::default())
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        check_bucket(&self.0.index.lock(), &req.input.bucket)?;
        answer(GetBucketLocationOutput::default())
    }

    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        let index = self.0.index.lock();
        let bucket = |(name, bucket): (&String, &super::index::Bucket)| Bucket {
            name: Some(name.clone()),
            creation_date: Some(timestamp(bucket.created_ms)),
            ..Default::default()
        };
        answer(ListBucketsOutput { buckets: Some(index.buckets().map(bucket).collect()), ..Default::default() })
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        let object = self.object(&input.bucket, &input.key)?;
        let conditions = conditions_of!(input);
        conditions.check_read(&object)?;
        let headers = object.headers().clone();
        answer(HeadObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: Some(signed(object.len())),
            e_tag: Some(etag(&object)),
            last_modified: Some(modified(&object)),
            metadata: user_metadata(&headers),
            content_type: headers.content_type,
            content_encoding: headers.content_encoding,
            content_disposition: headers.content_disposition,
            content_language: headers.content_language,
            cache_control: headers.cache_control,
            ..Default::default()
        })
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let object = self.object(&input.bucket, &input.key)?;
        let conditions = conditions_of!(input);
        conditions.check_read(&object)?;
        let len = object.len();
        let range = input.range.map(|range| range.check(len)).transpose()?;
        let content_range = range.as_ref().map(|range| format!("bytes {}-{}/{len}", range.start, range.end - 1));
        let range = range.unwrap_or(0..len);
        let headers = object.headers().clone();
        answer(GetObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: Some(signed(range.end - range.start)),
            content_range,
            e_tag: Some(etag(&object)),
            last_modified: Some(modified(&object)),
            metadata: user_metadata(&headers),
            content_type: headers.content_type,
            content_encoding: headers.content_encoding,
            content_disposition: headers.content_disposition,
            content_language: headers.content_language,
            cache_control: headers.cache_control,
            body: Some(body(&object, range.start, range.end)),
            ..Default::default()
        })
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = req.input;
        {
            // Early, to spare the upload; decided again below, when the object is there.
            let index = self.0.index.lock();
            check_bucket(&index, &input.bucket)?;
            let current = index.object(&input.bucket, &input.key);
            check_write(current.as_deref(), input.if_match.as_ref(), input.if_none_match.as_ref())?;
        }
        let promised = promised_of!(input);
        let (blobs, md5) = self.receive(input.body, promised).await?;
        let headers = headers_of!(input);
        let mut index = self.0.index.lock();
        check_bucket(&index, &input.bucket)?;
        let current = index.object(&input.bucket, &input.key);
        check_write(current.as_deref(), input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let object = index.put(&input.bucket, &input.key, blobs, md5, headers).map_err(broken)?;
        answer(PutObjectOutput { e_tag: Some(etag(&object)), ..Default::default() })
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = req.input;
        let source = self.source(&input.copy_source)?;
        let conditions = conditions_of_source!(input);
        conditions.check_copy(&source)?;
        let headers = if input.metadata_directive.is_some_and(|wish| wish.as_str() == MetadataDirective::REPLACE) {
            headers_of!(input)
        } else {
            source.headers().clone()
        };
        let (blobs, md5) = blocking(move || source.duplicate_blocking()).await.map_err(broken)?;
        let mut index = self.0.index.lock();
        check_bucket(&index, &input.bucket)?;
        let object = index.put(&input.bucket, &input.key, blobs, md5, headers).map_err(broken)?;
        let result = CopyObjectResult {
            e_tag: Some(etag(&object)),
            last_modified: Some(timestamp(object.modified_ms())),
            ..Default::default()
        };
        answer(CopyObjectOutput { copy_object_result: Some(result), ..Default::default() })
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = req.input;
        let mut index = self.0.index.lock();
        check_bucket(&index, &input.bucket)?;
        let current = index.object(&input.bucket, &input.key);
        check_write(current.as_deref(), input.if_match.as_ref(), None)?;
        index.delete(&input.bucket, &input.key).map_err(broken)?;
        answer(DeleteObjectOutput::default())
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = req.input;
        if delete.objects.len() > MAX_KEYS {
            return Err(s3_error!(MalformedXML));
        }
        let mut index = self.0.index.lock();
        check_bucket(&index, &bucket)?;
        for object in &delete.objects {
            index.delete(&bucket, &object.key).map_err(broken)?;
        }
        let quiet = delete.quiet.unwrap_or(false);
        let gone = |object: ObjectIdentifier| DeletedObject { key: Some(object.key), ..Default::default() };
        let deleted = (!quiet).then(|| delete.objects.into_iter().map(gone).collect());
        answer(DeleteObjectsOutput { deleted, ..Default::default() })
    }

    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = req.input;
        let after = match (input.marker.clone(), input.delimiter.as_deref()) {
            (None, _) => After::Start,
            (Some(marker), Some(delimiter)) if !delimiter.is_empty() && marker.ends_with(delimiter) => {
                After::Prefix(marker)
            }
            (Some(marker), _) => After::Key(marker),
        };
        let page = self.page(Listing {
            bucket: &input.bucket,
            prefix: input.prefix.as_deref(),
            delimiter: input.delimiter.as_deref(),
            after,
            max_keys: input.max_keys,
            encoding: input.encoding_type.as_ref(),
        })?;
        let next_marker = page.next.and_then(|next| match next {
            After::Key(text) | After::Prefix(text) => Some(encoded(&text, input.encoding_type.as_ref())),
            After::Start => None,
        });
        answer(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: input.prefix,
            marker: input.marker,
            delimiter: input.delimiter,
            encoding_type: input.encoding_type,
            max_keys: Some(page.max_keys),
            is_truncated: Some(next_marker.is_some()),
            next_marker,
            contents: page.contents,
            common_prefixes: page.common_prefixes,
            ..Default::default()
        })
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        let after = match (&input.continuation_token, &input.start_after) {
            (Some(token), _) => After::from_token(token)
                .ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))?,
            (None, Some(key)) => After::Key(key.clone()),
            (None, None) => After::Start,
        };
        let page = self.page(Listing {
            bucket: &input.bucket,
            prefix: input.prefix.as_deref(),
            delimiter: input.delimiter.as_deref(),
            after,
            max_keys: input.max_keys,
            encoding: input.encoding_type.as_ref(),
        })?;
        let next = page.next.as_ref().and_then(After::to_token);
        answer(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix,
            start_after: input.start_after,
            continuation_token: input.continuation_token,
            delimiter: input.delimiter,
            encoding_type: input.encoding_type,
            max_keys: Some(page.max_keys),
            key_count: Some(page.key_count),
            is_truncated: Some(next.is_some()),
            next_continuation_token: next,
            contents: page.contents,
            common_prefixes: page.common_prefixes,
            ..Default::default()
        })
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        let headers = headers_of!(input);
        let mut index = self.0.index.lock();
        check_bucket(&index, &input.bucket)?;
        let upload = index.begin(&input.bucket, &input.key, headers).map_err(broken)?;
        answer(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload),
            ..Default::default()
        })
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        check_part_number(input.part_number)?;
        open_upload(&self.0.index.lock(), &input.bucket, &input.key, &input.upload_id)?;
        let promised = promised_of!(input);
        let (blobs, md5) = self.receive(input.body, promised).await?;
        let mut index = self.0.index.lock();
        open_upload(&index, &input.bucket, &input.key, &input.upload_id)?;
        let tag = index.part(&input.upload_id, input.part_number, blobs, md5).map_err(broken)?;
        answer(UploadPartOutput { e_tag: Some(ETag::Strong(tag)), ..Default::default() })
    }

    async fn upload_part_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = req.input;
        check_part_number(input.part_number)?;
        open_upload(&self.0.index.lock(), &input.bucket, &input.key, &input.upload_id)?;
        let source = self.source(&input.copy_source)?;
        let conditions = conditions_of_source!(input);
        conditions.check_copy(&source)?;
        let range = match &input.copy_source_range {
            Some(text) => Range::parse(text).map_err(|_| s3_error!(InvalidArgument))?.check(source.len())?,
            None => 0..source.len(),
        };
        let store = self.0.clone();
        let (blob, md5) = blocking(move || {
            let (mut reader, mut writer) = (source.reader(range.start, range.end), store.blobs.writer());
            while let Some(piece) = reader.next_blocking()? {
                writer.write_blocking(&piece)?;
            }
            Ok(writer.finish())
        })
        .await
        .map_err(broken)?;
        let mut index = self.0.index.lock();
        open_upload(&index, &input.bucket, &input.key, &input.upload_id)?;
        let blobs = blob.into_iter().collect();
        let tag = index.part(&input.upload_id, input.part_number, blobs, md5).map_err(broken)?;
        let result = CopyPartResult { e_tag: Some(ETag::Strong(tag)), ..Default::default() };
        answer(UploadPartCopyOutput { copy_part_result: Some(result), ..Default::default() })
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        let wanted = input.multipart_upload.and_then(|list| list.parts).unwrap_or_default();
        let mut index = self.0.index.lock();
        let upload = open_upload(&index, &input.bucket, &input.key, &input.upload_id)?;
        let numbers = check_parts(upload, &wanted, self.0.min_part_bytes)?;
        let current = index.object(&input.bucket, &input.key);
        check_write(current.as_deref(), input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let object = index.complete(&input.upload_id, &numbers).map_err(broken)?;
        answer(CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(etag(&object)),
            ..Default::default()
        })
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let mut index = self.0.index.lock();
        open_upload(&index, &req.input.bucket, &req.input.key, &req.input.upload_id)?;
        index.abort(&req.input.upload_id).map_err(broken)?;
        answer(AbortMultipartUploadOutput::default())
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = req.input;
        let index = self.0.index.lock();
        let upload = open_upload(&index, &input.bucket, &input.key, &input.upload_id)?;
        let after = input.part_number_marker.unwrap_or(0);
        let max = input.max_parts.and_then(|max| usize::try_from(max).ok()).unwrap_or(MAX_KEYS).min(MAX_KEYS);
        let rest: Vec<_> = upload.parts.iter().filter(|(number, _)| **number > after).take(max + 1).collect();
        let truncated = rest.len() > max;
        let part = |(number, part): &(&i32, &Arc<Stored>)| Part {
            part_number: Some(**number),
            size: Some(signed(part.len())),
            e_tag: Some(etag(part)),
            last_modified: Some(timestamp(part.modified_ms())),
            ..Default::default()
        };
        let parts: Vec<Part> = rest.iter().take(max).map(part).collect();
        answer(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            part_number_marker: Some(after),
            next_part_number_marker: parts.last().and_then(|part| part.part_number),
            max_parts: i32::try_from(max).ok(),
            is_truncated: Some(truncated),
            parts: Some(parts),
            ..Default::default()
        })
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = req.input;
        let index = self.0.index.lock();
        check_bucket(&index, &input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let here = |upload: &Upload| upload.bucket == input.bucket && upload.key.starts_with(&prefix);
        let mut uploads: Vec<(&String, &Upload)> = index.uploads().filter(|(_, upload)| here(upload)).collect();
        uploads.sort_by(|(id_a, a), (id_b, b)| (&a.key, id_a).cmp(&(&b.key, id_b)));
        let from = (input.key_marker.clone(), input.upload_id_marker.clone());
        uploads.retain(|(id, upload)| match &from {
            (None, _) => true,
            (Some(key), None) => upload.key > *key,
            (Some(key), Some(marker)) => (&upload.key, *id) > (key, marker),
        });
        let max = input.max_uploads.and_then(|max| usize::try_from(max).ok()).unwrap_or(MAX_KEYS).min(MAX_KEYS);
        let truncated = uploads.len() > max;
        uploads.truncate(max);
        let last = uploads.last().filter(|_| truncated);
        let entry = |(id, upload): &(&String, &Upload)| MultipartUpload {
            key: Some(upload.key.clone()),
            upload_id: Some((*id).clone()),
            initiated: Some(timestamp(upload.at_ms)),
            ..Default::default()
        };
        answer(ListMultipartUploadsOutput {
            next_key_marker: last.map(|(_, upload)| upload.key.clone()),
            next_upload_id_marker: last.map(|(id, _)| (*id).clone()),
            is_truncated: Some(truncated),
            max_uploads: i32::try_from(max).ok(),
            uploads: Some(uploads.iter().map(entry).collect()),
            bucket: Some(input.bucket),
            prefix: input.prefix,
            key_marker: input.key_marker,
            upload_id_marker: input.upload_id_marker,
            ..Default::default()
        })
    }
}

/// What a client says of a body before it sends it.
struct Promised {
    /// Base 64.
    md5: Option<String>,
    sums: Checksum,
}

struct Listing<'a> {
    bucket: &'a str,
    prefix: Option<&'a str>,
    delimiter: Option<&'a str>,
    after: After,
    max_keys: Option<i32>,
    encoding: Option<&'a EncodingType>,
}

struct ListPage {
    contents: Option<Vec<Object>>,
    common_prefixes: Option<Vec<CommonPrefix>>,
    key_count: i32,
    max_keys: i32,
    next: Option<After>,
}

impl Api {
    fn object(&self, bucket: &str, key: &str) -> S3Result<Arc<Stored>> {
        let index = self.0.index.lock();
        check_bucket(&index, bucket)?;
        index.object(bucket, key).ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist."))
    }

    fn source(&self, source: &CopySource) -> S3Result<Arc<Stored>> {
        match source {
            CopySource::Bucket { bucket, key, .. } => self.object(bucket, key),
            _ => Err(s3_error!(NotImplemented)),
        }
    }

    /// Takes a body in, piece by piece, and holds it against what was promised.
    async fn receive(&self, body: Option<StreamingBlob>, promised: Promised) -> S3Result<(Vec<Arc<Blob>>, [u8; 16])> {
        let mut writer = self.0.blobs.writer();
        let mut sums = hasher(&promised.sums);
        if let Some(mut body) = body {
            while let Some(piece) = body.next().await {
                let piece = piece.map_err(|error| S3Error::with_source(S3ErrorCode::IncompleteBody, error))?;
                sums.update(&piece);
                writer.write(piece).await.map_err(broken)?;
            }
        }
        let (blob, md5) = writer.finish();
        if promised.md5.is_some_and(|promised| promised != base64(&md5)) || sums.finalize() != promised.sums {
            return Err(s3_error!(BadDigest, "The checksum you specified did not match what we received."));
        }
        Ok((blob.into_iter().collect(), md5))
    }

    fn page(&self, listing: Listing<'_>) -> S3Result<ListPage> {
        let Listing { bucket, prefix, delimiter, after, max_keys, encoding } = listing;
        let max_keys = max_keys.unwrap_or(i32::MAX);
        let max = usize::try_from(max_keys).map_err(|_| s3_error!(InvalidArgument, "max-keys is negative"))?;
        let index = self.0.index.lock();
        let bucket = index.bucket(bucket).ok_or_else(no_such_bucket)?;
        let page = list::page(&bucket.objects, prefix.unwrap_or(""), delimiter, after, max.min(MAX_KEYS));
        let object = |(key, object): &(&str, &Arc<Stored>)| Object {
            key: Some(encoded(key, encoding)),
            size: Some(signed(object.len())),
            e_tag: Some(etag(object)),
            last_modified: Some(timestamp(object.modified_ms())),
            storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
            ..Default::default()
        };
        let prefix = |prefix: &String| CommonPrefix { prefix: Some(encoded(prefix, encoding)) };
        let small = |count: usize| i32::try_from(count).expect("at most a thousand");
        Ok(ListPage {
            key_count: small(page.objects.len() + page.prefixes.len()),
            max_keys: small(max.min(MAX_KEYS)),
            contents: Some(page.objects.iter().map(object).collect()),
            common_prefixes: Some(page.prefixes.iter().map(prefix).collect()),
            next: page.next,
        })
    }
}

fn check_bucket(index: &Index, bucket: &str) -> S3Result<()> {
    if index.has_bucket(bucket) { Ok(()) } else { Err(no_such_bucket()) }
}

fn no_such_bucket() -> S3Error {
    s3_error!(NoSuchBucket, "The specified bucket does not exist")
}

fn open_upload<'a>(index: &'a Index, bucket: &str, key: &str, upload: &str) -> S3Result<&'a Upload> {
    check_bucket(index, bucket)?;
    let open = index.upload(upload).filter(|open| open.bucket == bucket && open.key == key);
    open.ok_or_else(|| s3_error!(NoSuchUpload, "The specified multipart upload does not exist."))
}

fn check_part_number(number: i32) -> S3Result<()> {
    if PART_NUMBERS.contains(&number) { Ok(()) } else { Err(s3_error!(InvalidArgument, "Part number out of range")) }
}

/// The numbers of the parts that make the object: ascending, all there, with these ETags, large enough.
fn check_parts(upload: &Upload, wanted: &[CompletedPart], min_part_bytes: u64) -> S3Result<Vec<i32>> {
    if wanted.is_empty() {
        return Err(s3_error!(MalformedXML));
    }
    let mut numbers: Vec<i32> = Vec::with_capacity(wanted.len());
    for (position, part) in wanted.iter().enumerate() {
        let number = part.part_number.ok_or_else(|| s3_error!(MalformedXML))?;
        if numbers.last().is_some_and(|last| *last >= number) {
            return Err(s3_error!(InvalidPartOrder));
        }
        let stored = upload.parts.get(&number).ok_or_else(|| s3_error!(InvalidPart))?;
        if part.e_tag.as_ref().is_some_and(|tag| tag.value() != stored.etag()) {
            return Err(s3_error!(InvalidPart));
        }
        if position + 1 < wanted.len() && stored.len() < min_part_bytes {
            return Err(s3_error!(EntityTooSmall));
        }
        numbers.push(number);
    }
    Ok(numbers)
}

fn body(object: &Arc<Stored>, start: u64, end: u64) -> StreamingBlob {
    let reader = object.reader(start, end);
    StreamingBlob::wrap(futures::stream::try_unfold(reader, |mut reader| async move {
        Ok::<_, io::Error>(reader.next().await?.map(|piece| (piece, reader)))
    }))
}

fn hasher(wanted: &Checksum) -> ChecksumHasher {
    ChecksumHasher {
        crc32: wanted.checksum_crc32.as_ref().map(|_| Default::default()),
        crc32c: wanted.checksum_crc32c.as_ref().map(|_| Default::default()),
        sha1: wanted.checksum_sha1.as_ref().map(|_| Default::default()),
        sha256: wanted.checksum_sha256.as_ref().map(|_| Default::default()),
        crc64nvme: wanted.checksum_crc64nvme.as_ref().map(|_| Default::default()),
    }
}

fn user_metadata(headers: &Headers) -> Option<Metadata> {
    let user: &BTreeMap<String, String> = &headers.user;
    (!user.is_empty()).then(|| user.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
}

fn answer<T>(output: T) -> S3Result<S3Response<T>> {
    Ok(S3Response::new(output))
}

/// Our disk failed, which a client sees as an error of the server.
fn broken(error: io::Error) -> S3Error {
    S3Error::with_source(S3ErrorCode::InternalError, Box::new(error))
}

fn timestamp(unix_ms: u64) -> Timestamp {
    Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms))
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).expect("no file has 2^63 bytes")
}

/// A key as a listing shows it: percent-encoded when the client asked for that, as XML cannot carry every character.
fn encoded(key: &str, encoding: Option<&EncodingType>) -> String {
    if encoding.is_none_or(|encoding| encoding.as_str() != EncodingType::URL) {
        return key.to_owned();
    }
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => out.push(char::from(byte)),
            other => write!(out, "%{other:02X}").expect("a string takes everything"),
        }
    }
    out
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for digit in 0..4 {
            let index = usize::try_from(bits >> (18 - 6 * digit) & 63).expect("six bits");
            out.push(if digit <= group.len() { char::from(DIGITS[index]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_everybody_writes_it() {
        let pairs: [(&str, &str); 4] = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in pairs {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
