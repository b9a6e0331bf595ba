//! `corten image`: the images of a node.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use proto::corten::image_v1::ImportRequest;
use proto::corten::image_v1::image_admin_client::ImageAdminClient;
use proto::cri::v1::image_service_client::ImageServiceClient;
use proto::cri::v1::{ImageSpec, ImageStatusRequest, ListImagesRequest, RemoveImageRequest};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::layout::Layout;
use crate::runtime;
use crate::say::say;

/// Bytes of an archive per message.
const PIECE: usize = 1 << 20;
/// Messages on their way at once.
const PIECES_IN_FLIGHT: usize = 4;

/// What to do with images.
#[derive(Subcommand)]
pub enum Command {
    /// Import an OCI layout or a `docker save` archive
    Import {
        /// The archive
        file: PathBuf,
    },
    /// List images
    Ls,
    /// Remove images, by name or id
    Rm {
        /// Names or ids
        #[arg(required = true)]
        images: Vec<String>,
    },
}

/// Runs `command` on the running cluster in `layout`.
pub fn run(layout: &Layout, command: Command) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        if let Command::Import { file } = &command {
            // Said before the runtime is asked: a missing file is the user's commonest mistake.
            std::fs::metadata(file).with_context(|| format!("read {}", file.display()))?;
        }
        let socket = layout.cri_socket();
        if !socket.exists() {
            bail!("no cluster runs in {}; start it with corten up", layout.data().display());
        }
        match command {
            Command::Import { file } => import(&socket, &file).await,
            Command::Ls => list(&socket).await,
            Command::Rm { images } => remove(&socket, &images).await,
        }
    })
}

async fn import(socket: &Path, path: &Path) -> anyhow::Result<()> {
    let channel = runtime::connect(socket).await?;
    let mut file = tokio::fs::File::open(path).await.with_context(|| format!("read {}", path.display()))?;
    let (sender, receiver) = mpsc::channel(PIECES_IN_FLIGHT);
    let reading = tokio::spawn(async move {
        loop {
            let mut data = Vec::with_capacity(PIECE);
            (&mut file).take(PIECE as u64).read_to_end(&mut data).await?;
            let ended = data.is_empty();
            // A receiver that is gone has refused the archive and says so itself.
            if ended || sender.send(ImportRequest { names: Vec::new(), data: data.into() }).await.is_err() {
                return Ok::<_, std::io::Error>(());
            }
        }
    });
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let answer = ImageAdminClient::new(channel).import(stream).await;
    reading.await?.with_context(|| format!("read {}", path.display()))?;
    let answer = answer.map_err(|status| anyhow::anyhow!("{}: {}", path.display(), status.message()))?;
    for image in answer.into_inner().images {
        let names = if image.names.is_empty() { image.id.clone() } else { image.names.join(", ") };
        say!("imported {names}");
    }
    Ok(())
}

async fn list(socket: &Path) -> anyhow::Result<()> {
    let mut images = ImageServiceClient::new(runtime::connect(socket).await?);
    let listed = images.list_images(ListImagesRequest::default()).await.map_err(said)?.into_inner().images;
    let mut rows: Vec<(String, String, u64)> = Vec::new();
    for image in listed {
        let id: String = image.id.trim_start_matches("sha256:").chars().take(12).collect();
        let names = if image.repo_tags.is_empty() { image.repo_digests } else { image.repo_tags };
        let unnamed = vec!["<none>".to_owned()];
        let names = if names.is_empty() { unnamed } else { names };
        rows.extend(names.into_iter().map(|name| (name, id.clone(), image.size)));
    }
    rows.sort();
    let width = rows.iter().map(|row| row.0.len()).max().unwrap_or(0).max("IMAGE".len());
    say!("{:<width$}  {:<12}  SIZE", "IMAGE", "ID");
    for (name, id, size) in rows {
        say!("{name:<width$}  {id:<12}  {}", human(size));
    }
    Ok(())
}

fn human(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

async fn remove(socket: &Path, names: &[String]) -> anyhow::Result<()> {
    let mut images = ImageServiceClient::new(runtime::connect(socket).await?);
    for name in names {
        let spec = Some(ImageSpec { image: name.clone(), ..ImageSpec::default() });
        let asked = ImageStatusRequest { image: spec.clone(), ..ImageStatusRequest::default() };
        if images.image_status(asked).await.map_err(said)?.into_inner().image.is_none() {
            bail!("there is no image {name}");
        }
        images.remove_image(RemoveImageRequest { image: spec }).await.map_err(said)?;
        say!("removed {name}");
    }
    Ok(())
}

fn said(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{}", status.message())
}
