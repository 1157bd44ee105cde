//! Namespaces: stores mounted at top-level names. The official calls and ours end in the same operations.

use super::caller;
use super::file_info::file_info;
use super::file_system::FileSystem;
use crate::error::Error;
use crate::stores::{Opener, SECRET_CONTEXT};
use meta::{CreateMount, DeleteMount, Mount, MountSpec, Op, UpdateMount};
use proto::convert;
use proto::grpc::file::*;
use std::collections::{BTreeMap, HashMap};
use tonic::codegen::BoxStream;
use tonic::{Request, Response};
use types::{GfsPath, Name, OperationId, Principal, ReadPolicy, Secret, WriteType};

type Answer<T> = Result<Response<T>, tonic::Status>;

/// What a namespace is to be.
pub struct Wish {
    pub name: String,
    pub uri: String,
    pub read_only: bool,
    pub shared: bool,
    pub properties: HashMap<String, String>,
    pub write_policy: Option<WriteType>,
    pub read_policy: Option<ReadPolicy>,
}

/// A name as users write it: `data` or `/data`.
pub fn name(text: &str) -> Result<Name, Error> {
    Name::new(text.trim_matches('/')).map_err(|err| Error::Rejected(err.into()))
}

impl FileSystem {
    /// Reaches the store, seals its secrets, then mounts it. Errors carry the store's own words.
    pub async fn create_mount(&self, who: &Principal, operation: Option<OperationId>, wish: Wish) -> Result<(), Error> {
        let name = name(&wish.name)?;
        let (properties, secrets) = split_secrets(wish.properties);
        let uri = match self.has_run(operation).await? {
            true => wish.uri,
            false => reach(&self.opener(), &wish.uri, &properties, &secrets).await?,
        };
        let spec = MountSpec {
            uri,
            read_only: wish.read_only,
            shared: wish.shared,
            properties,
            secrets: self.seal(&secrets),
            write_policy: wish.write_policy,
            read_policy: wish.read_policy,
        };
        self.handle.submit(who, operation, Op::CreateMount(CreateMount { name, spec })).await.map(drop)
    }

    pub fn opener(&self) -> Opener {
        Opener { clock: self.handle.shared.clock.clone(), entropy: self.handle.shared.entropy.clone() }
    }

    pub async fn mounts(&self) -> Result<Vec<Mount>, Error> {
        self.handle.read(meta::mounts).await
    }

    pub async fn mount_named(&self, text: &str) -> Result<Mount, Error> {
        let path = GfsPath::root().join(&name(text)?).map_err(|err| Error::Rejected(err.into()))?;
        let found = self.mounts().await?.into_iter().find(|mount| mount.path == path);
        found.ok_or_else(|| Error::Rejected(meta::Reject::NoNamespace(text.to_owned())))
    }

    pub fn seal(&self, secrets: &BTreeMap<String, Secret>) -> BTreeMap<String, Vec<u8>> {
        let seal = |secret: &Secret| self.key.seal(secret.expose(), SECRET_CONTEXT.as_bytes());
        secrets.iter().map(|(name, secret)| (name.clone(), seal(secret))).collect()
    }
}

/// Asks the store whether it can be used at all, and returns its address as it is kept.
pub async fn reach(
    opener: &Opener,
    uri: &str,
    properties: &BTreeMap<String, String>,
    secrets: &BTreeMap<String, Secret>,
) -> Result<String, Error> {
    let refused = |err: ufs::UfsError| {
        let kind = match err.kind() {
            kind @ (types::ErrorKind::Invalid
            | types::ErrorKind::Busy
            | types::ErrorKind::Unavailable
            | types::ErrorKind::Timeout) => kind,
            _ => types::ErrorKind::Precondition,
        };
        Error::UnderStore { kind, message: err.to_string() }
    };
    let store = opener.open(uri, properties, secrets).map_err(refused)?;
    store.check().await.map_err(refused)?;
    Ok(store.uri().to_owned())
}

/// Credentials among the properties are secrets wherever they came from.
pub fn split_secrets(all: HashMap<String, String>) -> (BTreeMap<String, String>, BTreeMap<String, Secret>) {
    let mut properties = BTreeMap::new();
    let mut secrets = BTreeMap::new();
    for (key, value) in all {
        if ufs::is_secret(&key) {
            secrets.insert(key, Secret::new(value));
        } else {
            properties.insert(key, value);
        }
    }
    (properties, secrets)
}

pub async fn create(fs: &FileSystem, request: Request<CreateNamespacePRequest>) -> Answer<CreateNamespacePResponse> {
    let who = caller(&request)?;
    let request = request.into_inner();
    let options = request.options.unwrap_or_default();
    let wish = Wish {
        name: request.namespace.unwrap_or_default(),
        uri: request.ufs_path.unwrap_or_default(),
        read_only: options.read_only(),
        shared: options.shared(),
        write_policy: convert::write_type::from_wire(options.write_p_type).map_err(Error::from)?,
        read_policy: convert::read_policy::from_wire(options.read_p_type).map_err(Error::from)?,
        properties: options.properties,
    };
    let operation = super::file_system::operation(options.common_options.as_ref())?;
    fs.create_mount(&who, operation, wish).await?;
    Ok(Response::new(CreateNamespacePResponse {}))
}

pub async fn update(fs: &FileSystem, request: Request<UpdateNamespacePRequest>) -> Answer<UpdateNamespacePResponse> {
    let who = caller(&request)?;
    let request = request.into_inner();
    let options = request.options.unwrap_or_default();
    let mount = fs.mount_named(&request.namespace.unwrap_or_default()).await?;
    let mut op = empty_update(&mount)?;
    op.read_only = options.read_only;
    op.shared = options.shared;
    if !options.properties.is_empty() {
        let (properties, secrets) = split_secrets(options.properties);
        let known = if properties.is_empty() { mount.properties.clone() } else { properties.clone() };
        reach(&fs.opener(), &mount.uri, &known, &secrets).await?;
        op.properties = (!properties.is_empty()).then_some(properties);
        op.secrets = Some(fs.seal(&secrets));
    }
    fs.handle.submit(&who, None, Op::UpdateMount(op)).await?;
    Ok(Response::new(UpdateNamespacePResponse {}))
}

pub fn empty_update(mount: &Mount) -> Result<UpdateMount, Error> {
    Ok(UpdateMount {
        name: name(mount.path.as_str())?,
        read_only: None,
        shared: None,
        properties: None,
        secrets: None,
        write_policy: None,
        read_policy: None,
    })
}

pub async fn delete(fs: &FileSystem, request: Request<DeleteNamespacePRequest>) -> Answer<DeleteNamespacePResponse> {
    let who = caller(&request)?;
    let request = request.into_inner();
    let name = name(&request.namespace.unwrap_or_default())?;
    let common = request.options.and_then(|options| options.common_options);
    let operation = super::file_system::operation(common.as_ref())?;
    fs.handle.submit(&who, operation, Op::DeleteMount(DeleteMount { name })).await?;
    Ok(Response::new(DeleteNamespacePResponse {}))
}

pub async fn list(
    fs: &FileSystem,
    request: Request<ListNamespacePRequest>,
) -> Answer<BoxStream<ListNamespacePResponse>> {
    let who = caller(&request)?;
    let mut answer = ListNamespacePResponse::default();
    for mount in fs.mounts().await?.iter().filter(|mount| !mount.path.is_root()) {
        let status = fs.status(&who, &mount.path, super::file_system::Freshness::Never).await?;
        answer.file_info.push(file_info(&fs.handle.shared, &status));
    }
    Ok(Response::new(Box::pin(tokio_stream::once(Ok(answer)))))
}

pub async fn stat(fs: &FileSystem, request: Request<StatNamespacePRequest>) -> Answer<StatNamespacePResponse> {
    let who = caller(&request)?;
    let mount = fs.mount_named(&request.into_inner().namespace.unwrap_or_default()).await?;
    let status = fs.status(&who, &mount.path, super::file_system::Freshness::Never).await?;
    Ok(Response::new(StatNamespacePResponse { file_info: Some(file_info(&fs.handle.shared, &status)) }))
}

pub async fn set_attribute(
    fs: &FileSystem,
    request: Request<SetNamespaceAttributePRequest>,
) -> Answer<SetNamespaceAttributePResponse> {
    let who = caller(&request)?;
    let request = request.into_inner();
    let options = request.options.unwrap_or_default();
    let mount = fs.mount_named(&request.namespace.unwrap_or_default()).await?;
    let mut op = empty_update(&mount)?;
    let (write, read) = (options.write_p_type, options.read_p_type);
    op.write_policy =
        write.map(|number| convert::write_type::from_wire(Some(number))).transpose().map_err(Error::from)?;
    op.read_policy =
        read.map(|number| convert::read_policy::from_wire(Some(number))).transpose().map_err(Error::from)?;
    fs.handle.submit(&who, None, Op::UpdateMount(op)).await?;
    Ok(Response::new(SetNamespaceAttributePResponse {}))
}
