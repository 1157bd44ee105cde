//! What the blobs mean: buckets, objects, uploads. In memory, in key order, behind a log that is read at the start.
//!
//! Owns:   the file `log`: one JSON document a line. A line is written before the change it describes is seen.
//! Never:  calls fsync: it outlives the process, not the machine.

use super::blob::{Blob, Blobs, Reader};
use s3s::crypto::{Checksum as _, Md5};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// The headers an object is stored with and returned with.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Headers {
    pub(super) content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) cache_control: Option<String>,
    pub(super) user: BTreeMap<String, String>,
}

/// An object, as the log writes it.
#[derive(Clone, Serialize, Deserialize)]
struct ObjectRecord {
    /// (id, length) of each blob.
    blobs: Vec<(u64, u64)>,
    etag: String,
    modified_ms: u64,
    headers: Headers,
}

#[derive(Serialize, Deserialize)]
enum Record {
    Bucket {
        bucket: String,
        created_ms: u64,
    },
    DropBucket {
        bucket: String,
    },
    Put {
        bucket: String,
        key: String,
        object: ObjectRecord,
    },
    Delete {
        bucket: String,
        key: String,
    },
    Begin {
        upload: String,
        bucket: String,
        key: String,
        headers: Headers,
        at_ms: u64,
    },
    Part {
        upload: String,
        number: i32,
        object: ObjectRecord,
    },
    /// The upload's parts become the object.
    Complete {
        upload: String,
        object: ObjectRecord,
    },
    Abort {
        upload: String,
    },
}

/// An object, or a part of an upload. Never changes; a reader keeps it.
pub(super) struct Object {
    record: ObjectRecord,
    blobs: Vec<Arc<Blob>>,
}

impl Object {
    pub(super) fn etag(&self) -> &str {
        &self.record.etag
    }
    pub(super) fn len(&self) -> u64 {
        self.record.blobs.iter().map(|(_, len)| len).sum()
    }
    pub(super) fn modified_ms(&self) -> u64 {
        self.record.modified_ms
    }
    pub(super) fn headers(&self) -> &Headers {
        &self.record.headers
    }
    pub(super) fn reader(&self, start: u64, end: u64) -> Reader {
        Reader::new(self.blobs.clone(), start, end)
    }
    pub(super) fn read_blocking(&self) -> io::Result<Vec<u8>> {
        let (mut reader, mut all) = (self.reader(0, self.len()), Vec::new());
        while let Some(piece) = reader.next_blocking()? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }
    /// The same bytes, made anew: blobs of its own (shared on disk) and their MD5, which needs reading when the ETag
    /// is not it. Blocks.
    pub(super) fn duplicate_blocking(&self) -> io::Result<(Vec<Arc<Blob>>, [u8; 16])> {
        let blobs = self.blobs.iter().map(|blob| blob.link()).collect::<io::Result<_>>()?;
        let mut md5 = Md5::new();
        let mut reader = self.reader(0, self.len());
        while let Some(piece) = reader.next_blocking()? {
            md5.update(&piece);
        }
        Ok((blobs, md5.finalize()))
    }
}

pub(super) struct Bucket {
    pub(super) created_ms: u64,
    pub(super) objects: BTreeMap<String, Arc<Object>>,
}

pub(super) struct Upload {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) headers: Headers,
    pub(super) at_ms: u64,
    pub(super) parts: BTreeMap<i32, Arc<Object>>,
}

/// Changes remembered with their times.
const HISTORY: usize = 100_000;

pub(super) struct Index {
    blobs: Arc<Blobs>,
    log: File,
    buckets: BTreeMap<String, Bucket>,
    uploads: BTreeMap<String, Upload>,
    /// What happened to objects since the start, oldest first.
    history: VecDeque<String>,
}

impl Drop for Index {
    fn drop(&mut self) {
        self.blobs.close();
    }
}

impl Index {
    pub(super) fn open(dir: &Path, blobs: Arc<Blobs>) -> io::Result<Index> {
        let path = dir.join("log");
        let log = OpenOptions::new().create(true).append(true).open(&path)?;
        let mut index =
            Index { blobs, log, buckets: BTreeMap::new(), uploads: BTreeMap::new(), history: VecDeque::new() };
        index.replay(&path)?;
        index.compact(&path)?;
        let known: HashSet<u64> = index.all_objects().flat_map(|object| &object.blobs).map(|blob| blob.id).collect();
        index.blobs.sweep(|id| known.contains(&id))?;
        Ok(index)
    }

    pub(super) fn create_bucket(&mut self, bucket: &str) -> io::Result<bool> {
        if self.has_bucket(bucket) {
            return Ok(false);
        }
        self.commit(Record::Bucket { bucket: bucket.into(), created_ms: now_ms() }, Vec::new())?;
        Ok(true)
    }

    /// Removes an empty bucket; false if it has objects.
    pub(super) fn drop_bucket(&mut self, bucket: &str) -> io::Result<bool> {
        if self.buckets.get(bucket).is_some_and(|bucket| !bucket.objects.is_empty()) {
            return Ok(false);
        }
        self.commit(Record::DropBucket { bucket: bucket.into() }, Vec::new())?;
        Ok(true)
    }

    pub(super) fn buckets(&self) -> impl Iterator<Item = (&String, &Bucket)> {
        self.buckets.iter()
    }

    pub(super) fn bucket(&self, bucket: &str) -> Option<&Bucket> {
        self.buckets.get(bucket)
    }

    pub(super) fn has_bucket(&self, bucket: &str) -> bool {
        self.buckets.contains_key(bucket)
    }

    pub(super) fn object(&self, bucket: &str, key: &str) -> Option<Arc<Object>> {
        self.buckets.get(bucket)?.objects.get(key).cloned()
    }

    pub(super) fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let Some(bucket) = self.buckets.get(bucket) else { return Vec::new() };
        let from = bucket.objects.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.map(|(key, _)| key).take_while(|key| key.starts_with(prefix)).cloned().collect()
    }

    /// Puts an object into a bucket that exists.
    pub(super) fn put(
        &mut self,
        bucket: &str,
        key: &str,
        blobs: Vec<Arc<Blob>>,
        md5: [u8; 16],
        headers: Headers,
    ) -> io::Result<Arc<Object>> {
        let object = record(&blobs, hex(&md5), headers);
        self.commit(Record::Put { bucket: bucket.into(), key: key.into(), object }, blobs)?;
        Ok(self.object(bucket, key).expect("just put into a bucket that exists"))
    }

    /// Whether the object was there.
    pub(super) fn delete(&mut self, bucket: &str, key: &str) -> io::Result<bool> {
        if self.object(bucket, key).is_none() {
            return Ok(false);
        }
        self.commit(Record::Delete { bucket: bucket.into(), key: key.into() }, Vec::new())?;
        Ok(true)
    }

    pub(super) fn begin(&mut self, bucket: &str, key: &str, headers: Headers) -> io::Result<String> {
        let upload = format!("{:032x}", rand::random::<u128>());
        let (bucket, key) = (bucket.into(), key.into());
        self.commit(Record::Begin { upload: upload.clone(), bucket, key, headers, at_ms: now_ms() }, Vec::new())?;
        Ok(upload)
    }

    pub(super) fn upload(&self, upload: &str) -> Option<&Upload> {
        self.uploads.get(upload)
    }

    pub(super) fn uploads(&self) -> impl Iterator<Item = (&String, &Upload)> {
        self.uploads.iter()
    }

    pub(super) fn open_uploads(&self) -> usize {
        self.uploads.len()
    }

    /// Adds or replaces a part of an open upload. Returns its ETag.
    pub(super) fn part(
        &mut self,
        upload: &str,
        number: i32,
        blobs: Vec<Arc<Blob>>,
        md5: [u8; 16],
    ) -> io::Result<String> {
        let object = record(&blobs, hex(&md5), Headers::default());
        let etag = object.etag.clone();
        self.commit(Record::Part { upload: upload.into(), number, object }, blobs)?;
        Ok(etag)
    }

    /// Makes these parts of an open upload the object, in this order.
    pub(super) fn complete(&mut self, upload: &str, numbers: &[i32]) -> io::Result<Arc<Object>> {
        let open = &self.uploads[upload];
        let (bucket, key) = (open.bucket.clone(), open.key.clone());
        let mut md5s = Md5::new();
        let mut blobs = Vec::new();
        for number in numbers {
            let part = &open.parts[number];
            md5s.update(&unhex(part.etag()));
            blobs.extend(part.blobs.iter().cloned());
        }
        let etag = format!("{}-{}", hex(&md5s.finalize()), numbers.len());
        let object = record(&blobs, etag, open.headers.clone());
        self.commit(Record::Complete { upload: upload.into(), object }, blobs)?;
        Ok(self.object(&bucket, &key).expect("the upload's bucket cannot go while it is open"))
    }

    pub(super) fn abort(&mut self, upload: &str) -> io::Result<()> {
        self.commit(Record::Abort { upload: upload.into() }, Vec::new())
    }

    fn commit(&mut self, record: Record, blobs: Vec<Arc<Blob>>) -> io::Result<()> {
        // One write for the line: a killed process leaves it whole or not at all, or torn at the very end.
        self.log.write_all(&line(&record)?)?;
        self.note(&record);
        self.apply(record, blobs);
        Ok(())
    }

    fn note(&mut self, record: &Record) {
        let told = match record {
            Record::Put { bucket, key, object } => format!("put {bucket}/{key} as {}", object.etag),
            Record::Delete { bucket, key } => format!("delete {bucket}/{key}"),
            Record::Begin { bucket, key, .. } => format!("begin an upload of {bucket}/{key}"),
            Record::Complete { upload, object } => match self.uploads.get(upload) {
                Some(Upload { bucket, key, .. }) => format!("complete {bucket}/{key} as {}", object.etag),
                None => return,
            },
            Record::Abort { upload } => match self.uploads.get(upload) {
                Some(Upload { bucket, key, .. }) => format!("abort the upload of {bucket}/{key}"),
                None => return,
            },
            Record::Bucket { .. } | Record::DropBucket { .. } | Record::Part { .. } => return,
        };
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(format!("{} {told}", now_ms()));
    }

    /// Changes of objects whose bucket and key, joined by a slash, contain `part`.
    pub(super) fn history(&self, part: &str) -> Vec<String> {
        self.history.iter().filter(|told| told.contains(part)).cloned().collect()
    }

    fn apply(&mut self, record: Record, blobs: Vec<Arc<Blob>>) {
        match record {
            Record::Bucket { bucket, created_ms } => {
                self.buckets.insert(bucket, Bucket { created_ms, objects: BTreeMap::new() });
            }
            Record::DropBucket { bucket } => {
                self.buckets.remove(&bucket);
                self.uploads.retain(|_, upload| upload.bucket != bucket);
            }
            Record::Put { bucket, key, object } => self.insert(&bucket, key, Object { record: object, blobs }),
            Record::Delete { bucket, key } => {
                self.buckets.get_mut(&bucket).and_then(|bucket| bucket.objects.remove(&key));
            }
            Record::Begin { upload, bucket, key, headers, at_ms } => {
                self.uploads.insert(upload, Upload { bucket, key, headers, at_ms, parts: BTreeMap::new() });
            }
            Record::Part { upload, number, object } => {
                if let Some(upload) = self.uploads.get_mut(&upload) {
                    upload.parts.insert(number, Arc::new(Object { record: object, blobs }));
                }
            }
            Record::Complete { upload, object } => {
                if let Some(done) = self.uploads.remove(&upload) {
                    self.insert(&done.bucket, done.key, Object { record: object, blobs });
                }
            }
            Record::Abort { upload } => {
                self.uploads.remove(&upload);
            }
        }
    }

    fn insert(&mut self, bucket: &str, key: String, object: Object) {
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            bucket.objects.insert(key, Arc::new(object));
        }
    }

    fn replay(&mut self, path: &Path) -> io::Result<()> {
        let mut log = BufReader::new(File::open(path)?);
        let mut text = Vec::new();
        while log.read_until(b'\n', &mut text)? > 0 {
            if text.pop_if(|last| *last == b'\n').is_none() {
                break; // torn: its request was never answered
            }
            let record: Record = serde_json::from_slice(&text)?;
            let blobs = self.blobs_of(&record);
            self.apply(record, blobs);
            text.clear();
        }
        Ok(())
    }

    /// The blobs a record of the log names; those of a completed upload are the upload's own.
    fn blobs_of(&self, record: &Record) -> Vec<Arc<Blob>> {
        let known = |object: &ObjectRecord| object.blobs.iter().map(|(id, len)| self.blobs.known(*id, *len)).collect();
        match record {
            Record::Put { object, .. } | Record::Part { object, .. } => known(object),
            Record::Complete { upload, object } => {
                let parts = self.uploads.get(upload).into_iter().flat_map(|upload| upload.parts.values());
                let of_parts: BTreeMap<u64, &Arc<Blob>> =
                    parts.flat_map(|part| &part.blobs).map(|blob| (blob.id, blob)).collect();
                object.blobs.iter().filter_map(|(id, _)| of_parts.get(id).copied().cloned()).collect()
            }
            Record::Bucket { .. }
            | Record::DropBucket { .. }
            | Record::Delete { .. }
            | Record::Begin { .. }
            | Record::Abort { .. } => Vec::new(),
        }
    }

    /// Writes the log anew, with what is there and without how it came about.
    fn compact(&mut self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("new");
        let mut out = BufWriter::new(File::create(&fresh)?);
        for (name, bucket) in &self.buckets {
            out.write_all(&line(&Record::Bucket { bucket: name.clone(), created_ms: bucket.created_ms })?)?;
            for (key, object) in &bucket.objects {
                let (bucket, key, object) = (name.clone(), key.clone(), object.record.clone());
                out.write_all(&line(&Record::Put { bucket, key, object })?)?;
            }
        }
        for (id, upload) in &self.uploads {
            let Upload { bucket, key, headers, at_ms, parts } = upload;
            let (bucket, key, headers, at_ms) = (bucket.clone(), key.clone(), headers.clone(), *at_ms);
            out.write_all(&line(&Record::Begin { upload: id.clone(), bucket, key, headers, at_ms })?)?;
            for (number, part) in parts {
                let (upload, number, object) = (id.clone(), *number, part.record.clone());
                out.write_all(&line(&Record::Part { upload, number, object })?)?;
            }
        }
        out.into_inner().map_err(io::IntoInnerError::into_error)?;
        std::fs::rename(&fresh, path)?;
        self.log = OpenOptions::new().append(true).open(path)?;
        Ok(())
    }

    fn all_objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        let objects = self.buckets.values().flat_map(|bucket| bucket.objects.values());
        objects.chain(self.uploads.values().flat_map(|upload| upload.parts.values()))
    }
}

fn record(blobs: &[Arc<Blob>], etag: String, headers: Headers) -> ObjectRecord {
    let blobs = blobs.iter().map(|blob| (blob.id, blob.len)).collect();
    ObjectRecord { blobs, etag, modified_ms: now_ms(), headers }
}

fn line(record: &Record) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    Ok(line)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).expect("some time before the year 584556019")
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..text.len() / 2).map(|index| digit(index * 2).expect("our own ETag is hex")).collect()
}
