//! CRI's image service.

use futures::stream::BoxStream;
use proto::cri::v1 as cri;
use proto::cri::v1::image_service_server::ImageService;
use tonic::{Request, Response, Status, async_trait};

use super::{Services, in_pieces, required};
use crate::disk::{blocking, now_ns};
use crate::images::catalog::ImageRecord;

type Reply<T> = Result<Response<T>, Status>;

impl Services {
    fn images_matching(&self, filter: Option<&cri::ImageFilter>) -> Vec<cri::Image> {
        let name = filter.and_then(|f| f.image.as_ref()).map(|i| i.image.as_str()).filter(|n| !n.is_empty());
        let records = match name {
            Some(name) => self.node.images.find(name).into_iter().collect(),
            None => self.node.images.list(),
        };
        records.iter().map(to_cri).collect()
    }
}

fn to_cri(image: &ImageRecord) -> cri::Image {
    let user = image.run.user.split(':').next().unwrap_or_default();
    let uid: Option<i64> = user.parse().ok();
    cri::Image {
        id: image.id.to_string(),
        repo_tags: image.tags.iter().cloned().collect(),
        repo_digests: image.digests.iter().cloned().collect(),
        size: image.size.max(1),
        uid: uid.map(|value| cri::Int64Value { value }),
        username: if uid.is_some() { String::new() } else { user.to_owned() },
        spec: None,
        pinned: image.pinned,
    }
}

#[async_trait]
impl ImageService for Services {
    type StreamImagesStream = BoxStream<'static, Result<cri::StreamImagesResponse, Status>>;

    async fn list_images(&self, request: Request<cri::ListImagesRequest>) -> Reply<cri::ListImagesResponse> {
        let images = self.images_matching(request.into_inner().filter.as_ref());
        Ok(Response::new(cri::ListImagesResponse { images }))
    }

    async fn stream_images(
        &self,
        request: Request<cri::StreamImagesRequest>,
    ) -> Reply<Self::StreamImagesStream> {
        let images = self.images_matching(request.into_inner().filter.as_ref());
        Ok(Response::new(in_pieces(images, |images| cri::StreamImagesResponse { images })))
    }

    async fn image_status(
        &self,
        request: Request<cri::ImageStatusRequest>,
    ) -> Reply<cri::ImageStatusResponse> {
        let request = request.into_inner();
        let name = required(request.image, "image")?.image;
        let Some(image) = self.node.images.find(&name) else {
            return Ok(Response::new(cri::ImageStatusResponse::default()));
        };
        let mut info = std::collections::HashMap::new();
        if request.verbose {
            let (images, id) = (self.node.images.clone(), image.id.clone());
            let config = blocking(move || images.config_json(&id)).await?;
            let spec: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
            let chain = image.chain.last().map(ToString::to_string);
            info.insert(
                "info".to_owned(),
                serde_json::json!({"chainID": chain, "imageSpec": spec}).to_string(),
            );
        }
        Ok(Response::new(cri::ImageStatusResponse { image: Some(to_cri(&image)), info }))
    }

    async fn pull_image(&self, request: Request<cri::PullImageRequest>) -> Reply<cri::PullImageResponse> {
        let request = request.into_inner();
        let name = required(request.image, "image")?.image;
        let images = self.node.images.clone();
        self.while_serving(async move {
            let id = images.pull(&name, request.auth.as_ref()).await.inspect_err(|error| {
                tracing::info!(image = name, %error, "pull failed");
            })?;
            Ok(cri::PullImageResponse { image_ref: id.to_string() })
        })
        .await
    }

    async fn remove_image(
        &self,
        request: Request<cri::RemoveImageRequest>,
    ) -> Reply<cri::RemoveImageResponse> {
        let name = required(request.into_inner().image, "image")?.image;
        let images = self.node.images.clone();
        self.to_the_end(async move {
            images.remove(&name).await?;
            Ok(cri::RemoveImageResponse {})
        })
        .await
    }

    async fn image_fs_info(&self, _: Request<cri::ImageFsInfoRequest>) -> Reply<cri::ImageFsInfoResponse> {
        let (root, usage) = self.node.images.usage().await?;
        let filesystem = cri::FilesystemUsage {
            timestamp: now_ns(),
            fs_id: Some(cri::FilesystemIdentifier { mountpoint: root.display().to_string() }),
            used_bytes: Some(cri::UInt64Value { value: usage.bytes }),
            inodes_used: Some(cri::UInt64Value { value: usage.inodes }),
        };
        Ok(Response::new(cri::ImageFsInfoResponse {
            image_filesystems: vec![filesystem.clone()],
            container_filesystems: vec![filesystem],
        }))
    }
}
