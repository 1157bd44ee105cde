//! COS as far as our requests go, in place of the network: its own header names, markers and error documents.
//!
//! Real COS is reached with real credentials only; this holds our side of the protocol as its documentation says it.

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use opendal::{Buffer, HttpBody, HttpTransport, Result};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
pub struct FakeCos(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, (Bytes, String)>,
    uploads: HashMap<String, BTreeMap<u32, Bytes>>,
    writes: u64,
    /// Requests by kind.
    listings: u64,
}

struct Answer {
    status: StatusCode,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl FakeCos {
    pub fn listings(&self) -> u64 {
        self.0.lock().expect("no panic").listings
    }
    pub fn open_uploads(&self) -> usize {
        self.0.lock().expect("no panic").uploads.len()
    }
}

impl HttpTransport for FakeCos {
    async fn fetch(&self, request: Request<Buffer>) -> Result<Response<HttpBody>> {
        let is_head = request.method() == Method::HEAD;
        let answer = self.0.lock().expect("no panic").answer(request);
        let mut response = Response::builder().status(answer.status);
        let mut has_length = false;
        for (name, value) in answer.headers {
            has_length |= name == "content-length";
            response = response.header(name, value);
        }
        if !has_length {
            response = response.header("content-length", answer.body.len().to_string());
        }
        let size = (!is_head).then(|| u64::try_from(answer.body.len()).expect("small"));
        let body = HttpBody::new(stream::iter([Ok(Buffer::from(answer.body))]), size);
        Ok(response.body(body).expect("valid headers"))
    }
}

impl State {
    fn answer(&mut self, request: Request<Buffer>) -> Answer {
        let (parts, body) = request.into_parts();
        assert_eq!(parts.uri.host(), Some("bucket-1250000000.cos.test.example"), "the bucket belongs in the host name");
        let signed = parts.headers.get("authorization").expect("every request is signed").to_str().expect("ascii");
        assert!(signed.contains("q-sign-algorithm=sha1") && signed.contains("q-ak=cosid"), "{signed}");
        let key = decode(parts.uri.path().trim_start_matches('/'));
        let query: HashMap<String, String> = parts
            .uri
            .query()
            .unwrap_or("")
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decode(name), decode(value)))
            .collect();
        let asks = |name: &str| query.get(name).cloned();
        match (parts.method.as_str(), asks("uploadId")) {
            ("GET", None) if key.is_empty() => self.list(&query),
            ("HEAD" | "GET", None) => self.get(&key, &parts.headers),
            ("PUT", None) => self.put(&key, &parts.headers, body.to_bytes()),
            ("POST", None) if query.contains_key("uploads") => {
                self.writes += 1;
                let id = format!("upload/{}", self.writes);
                self.uploads.insert(id.clone(), BTreeMap::new());
                xml(format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
            }
            ("PUT", Some(id)) => {
                let number = asks("partNumber").expect("a number").parse().expect("a number");
                // A part may still be on its way when the upload is aborted.
                let Some(upload) = self.uploads.get_mut(&id) else {
                    return refuse(StatusCode::NOT_FOUND, "NoSuchUpload");
                };
                upload.insert(number, body.to_bytes());
                Answer {
                    status: StatusCode::OK,
                    headers: vec![("etag", format!("\"part{number}\""))],
                    body: Bytes::new(),
                }
            }
            ("POST", Some(id)) => self.complete(&key, &id, &parts.headers),
            ("DELETE", Some(id)) => {
                self.uploads.remove(&id);
                plain(StatusCode::NO_CONTENT)
            }
            ("DELETE", None) => {
                let status = self.objects.remove(&key).map_or(StatusCode::NOT_FOUND, |_| StatusCode::NO_CONTENT);
                plain(status)
            }
            other => panic!("COS knows no {other:?}"),
        }
    }

    fn store(
        &mut self,
        key: &str,
        headers: &HeaderMap,
        content: Bytes,
        suffix: &str,
    ) -> std::result::Result<String, Answer> {
        if headers.contains_key("x-cos-forbid-overwrite") && self.objects.contains_key(key) {
            return Err(refuse(StatusCode::CONFLICT, "FileAlreadyExists"));
        }
        self.writes += 1;
        let tag = format!("\"tag{}{suffix}\"", self.writes);
        self.objects.insert(key.to_owned(), (content, tag.clone()));
        Ok(tag)
    }

    fn put(&mut self, key: &str, headers: &HeaderMap, body: Bytes) -> Answer {
        let content = match headers.get("x-cos-copy-source") {
            None => body,
            Some(source) => {
                let source = decode(source.to_str().expect("ascii"));
                let source = source.trim_start_matches('/').split_once('/').expect("bucket/key").1.to_owned();
                match self.objects.get(&source) {
                    Some((content, _)) => content.clone(),
                    None => return refuse(StatusCode::NOT_FOUND, "NoSuchKey"),
                }
            }
        };
        let tag = match self.store(key, headers, content, "") {
            Ok(tag) => tag,
            Err(refused) => return refused,
        };
        Answer { status: StatusCode::OK, headers: vec![("etag", tag)], body: Bytes::new() }
    }

    fn complete(&mut self, key: &str, id: &str, headers: &HeaderMap) -> Answer {
        let Some(parts) = self.uploads.get(id).cloned() else {
            return refuse(StatusCode::NOT_FOUND, "NoSuchUpload");
        };
        let content: Vec<u8> = parts.values().flatten().copied().collect();
        match self.store(key, headers, content.into(), &format!("-{}", parts.len())) {
            Ok(tag) => {
                self.uploads.remove(id);
                xml(format!("<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>"))
            }
            Err(refused) => refused,
        }
    }

    fn get(&self, key: &str, headers: &HeaderMap) -> Answer {
        let Some((content, tag)) = self.objects.get(key) else {
            return refuse(StatusCode::NOT_FOUND, "NoSuchKey");
        };
        if headers.get("if-match").is_some_and(|wanted| wanted.to_str().ok() != Some(tag)) {
            return refuse(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
        }
        let length = content.len();
        let mut answer = vec![("etag", tag.clone()), ("last-modified", "Tue, 14 Nov 2023 22:13:20 GMT".to_owned())];
        let Some(range) = headers.get("range") else {
            answer.push(("content-length", length.to_string()));
            return Answer { status: StatusCode::OK, headers: answer, body: content.clone() };
        };
        let range = range.to_str().expect("ascii").trim_start_matches("bytes=");
        let (start, end) = range.split_once('-').expect("a range");
        let (start, end): (usize, usize) = (start.parse().expect("a start"), end.parse().expect("an end"));
        if start >= length {
            return refuse(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange");
        }
        let end = end.min(length - 1);
        answer.push(("content-range", format!("bytes {start}-{end}/{length}")));
        Answer { status: StatusCode::PARTIAL_CONTENT, headers: answer, body: content.slice(start..=end) }
    }

    fn list(&mut self, query: &HashMap<String, String>) -> Answer {
        self.listings += 1;
        let text = |name: &str| query.get(name).map_or("", String::as_str);
        let (prefix, delimiter, marker) = (text("prefix"), text("delimiter"), text("marker"));
        let max: usize = text("max-keys").parse().unwrap_or(1000);
        let (mut contents, mut prefixes, mut last) = (String::new(), Vec::<String>::new(), String::new());
        let mut count = 0;
        let mut is_truncated = false;
        for (key, (content, tag)) in
            self.objects.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix))
        {
            let common = key[prefix.len()..].find(delimiter).filter(|_| !delimiter.is_empty());
            let shown = common.map_or(key.clone(), |at| key[..=prefix.len() + at].to_owned());
            if shown.as_str() <= marker || (common.is_some() && prefixes.last() == Some(&shown)) {
                continue;
            }
            if count == max {
                is_truncated = true;
                break;
            }
            count += 1;
            last.clone_from(&shown);
            if common.is_some() {
                prefixes.push(shown);
            } else {
                contents += &format!(
                    "<Contents><Key>{}</Key><LastModified>2023-11-14T22:13:20.000Z</LastModified><ETag>{tag}</ETag>\
                     <Size>{}</Size></Contents>",
                    escape(key),
                    content.len()
                );
            }
        }
        let prefixes: String = prefixes
            .iter()
            .map(|prefix| format!("<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escape(prefix)))
            .collect();
        let next = if is_truncated { format!("<NextMarker>{}</NextMarker>", escape(&last)) } else { String::new() };
        xml(format!(
            "<ListBucketResult><IsTruncated>{is_truncated}</IsTruncated>{next}{contents}{prefixes}</ListBucketResult>"
        ))
    }
}

fn plain(status: StatusCode) -> Answer {
    Answer { status, headers: Vec::new(), body: Bytes::new() }
}
fn xml(text: String) -> Answer {
    Answer { status: StatusCode::OK, headers: vec![("content-type", "application/xml".into())], body: text.into() }
}
fn refuse(status: StatusCode, code: &str) -> Answer {
    let text = format!("<Error><Code>{code}</Code><Message>as COS says it</Message></Error>");
    Answer { status, ..xml(text) }
}
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        if bytes[at] == b'%' {
            out.push(u8::from_str_radix(&text[at + 1..at + 3], 16).expect("percent encoding"));
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).expect("UTF-8")
}
