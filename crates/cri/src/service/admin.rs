//! `corten.image.v1`: import of archives.

use std::io::Write;

use proto::corten::image_v1::image_admin_server::ImageAdmin;
use proto::corten::image_v1::{ImportRequest, ImportResponse, ImportedImage};
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::Services;
use crate::disk::blocking;
use crate::error::Error;

#[async_trait]
impl ImageAdmin for Services {
    async fn import(
        &self,
        request: Request<Streaming<ImportRequest>>,
    ) -> Result<Response<ImportResponse>, Status> {
        let mut pieces = request.into_inner();
        let images = self.node.images.clone();
        let mut file = {
            let images = images.clone();
            blocking(move || images.upload_file()).await?
        };
        let mut names = Vec::new();
        while let Some(piece) = pieces.message().await? {
            if names.is_empty() {
                names = piece.names;
            }
            let failed = |source| Error::Io { doing: "keep the upload".to_owned(), source };
            file = blocking(move || file.write_all(&piece.data).map_err(failed).map(|()| file)).await?;
        }
        self.to_the_end(async move {
            let imported = images.import(file, names).await?;
            let images = imported
                .into_iter()
                .map(|image| ImportedImage { id: image.id.to_string(), names: image.names })
                .collect();
            Ok(ImportResponse { images })
        })
        .await
    }
}
