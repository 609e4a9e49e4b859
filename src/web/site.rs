//! Everything that one web server can be asked for: the pages in the program, or the files of a folder.
//!
//! All of it is held in memory, by the path in the URL, so no path can lead out of it: what is not in the table does not exist. A folder is
//! looked at again every 2 s.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, OnceLock, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::HeaderValue;
use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::pages::PAGES;
use crate::control::percent;

/// Most files of a folder.
pub const MAX_FILES: usize = 2_000;
/// Most bytes of all of them; they are held in memory.
pub const MAX_BYTES: u64 = 64 << 20;
/// How deep folders may lie in each other.
pub const MAX_DEPTH: usize = 16;
/// How often a folder is looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Below so many bytes compression saves less than its header and the look at it cost.
const LEAST_COMPRESSED: usize = 256;

/// One thing that can be fetched.
#[derive(Debug)]
pub struct File {
    /// Its media type.
    pub content_type: &'static str,
    /// As it is.
    pub plain: Form,
    gzip: OnceLock<Option<Form>>,
}

/// One form of a [`File`].
#[derive(Debug)]
pub struct Form {
    /// What is sent.
    pub bytes: Bytes,
    /// A strong entity tag (RFC 9110, section 8.8.3): each form has its own.
    pub etag: HeaderValue,
}

impl File {
    fn new(content_type: &'static str, bytes: Bytes) -> Self {
        let etag = etag(&bytes, "");
        Self { content_type, plain: Form { bytes, etag }, gzip: OnceLock::new() }
    }

    /// Whether it has a compressed form, if it is large enough; pictures and archives are compressed already.
    #[must_use]
    pub fn is_compressible(&self) -> bool {
        let kind = self.content_type;
        kind.starts_with("text/") || kind.starts_with("application/json") || COMPRESSIBLE.contains(&kind)
    }

    /// The same in gzip, made when it is first asked for; `None` where that saves nothing.
    pub fn gzip(&self) -> Option<&Form> {
        let compressed = || {
            let plain = &self.plain.bytes;
            if !self.is_compressible() || plain.len() < LEAST_COMPRESSED {
                return None;
            }
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            // Into memory; it cannot fail.
            encoder.write_all(plain).ok()?;
            let bytes: Bytes = encoder.finish().ok().filter(|bytes| bytes.len() < plain.len())?.into();
            Some(Form { bytes, etag: etag(plain, "-gzip") })
        };
        self.gzip.get_or_init(compressed).as_ref()
    }
}

const COMPRESSIBLE: [&str; 4] = [SVG, WASM, MANIFEST, "application/xml"];
const SVG: &str = "image/svg+xml";
const WASM: &str = "application/wasm";
const MANIFEST: &str = "application/manifest+json";

/// Half of a SHA-256 names a content well enough.
fn etag(bytes: &[u8], form: &str) -> HeaderValue {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    // Letters, digits and quotes.
    HeaderValue::from_str(&format!("\"{hex}{form}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// What a file is, by its name.
fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase()).unwrap_or_default().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "txt" | "md" => "text/plain; charset=utf-8",
        "xml" => "application/xml",
        "svg" => SVG,
        "wasm" => WASM,
        "webmanifest" => MANIFEST,
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "ttf" => "font/ttf",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "pdf" => "application/pdf",
        _ => "application/octet-stream",
    }
}

/// All files of one server, by their paths in a URL.
#[derive(Debug, Default)]
pub struct Site {
    files: HashMap<String, Arc<File>>,
}

static EMBEDDED: LazyLock<Arc<Site>> = LazyLock::new(|| {
    let file = |bytes, content_type| Arc::new(File::new(content_type, Bytes::from_static(bytes)));
    let files = PAGES.iter().map(|page| (page.path.to_owned(), file(page.bytes, page.content_type)));
    Arc::new(Site { files: files.collect() })
});

impl Site {
    /// The pages in the program.
    #[must_use]
    pub fn embedded() -> Arc<Site> {
        Arc::clone(&EMBEDDED)
    }

    /// Reads a folder. Left out are hidden files (a name that begins with a dot), what is no regular file, and links that lead to a folder or out of this
    /// one. `index.html` is also found under the name of its folder.
    ///
    /// # Errors
    /// When the folder cannot be read or holds more than a server keeps in memory.
    pub fn read(folder: &Path) -> Result<Site, SiteError> {
        let mut site = Site::default();
        for (path, found) in list(folder)? {
            let mut bytes = Vec::new();
            // No longer a link, nor anything that keeps a reader waiting.
            OpenOptions::new()
                .read(true)
                .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
                .open(&found.file)
                .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
                .map_err(|source| SiteError::Read { path: found.file.clone(), source })?;
            let file = Arc::new(File::new(content_type(&path), bytes.into()));
            // Compressed now, by whoever reads and not by whoever serves.
            file.gzip();
            if let Some(folder) = path.strip_suffix("index.html").filter(|rest| rest.ends_with('/')) {
                site.files.insert(folder.to_owned(), Arc::clone(&file));
            }
            site.files.insert(path, file);
        }
        if site.files.is_empty() {
            return Err(SiteError::Empty(folder.to_owned()));
        }
        Ok(site)
    }

    /// What a URL's `path` names, escapes and all.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&File> {
        match self.files.get(path) {
            Some(file) => Some(file),
            None if path.contains('%') => self.files.get(&percent::decode(path)?).map(Arc::as_ref),
            None => None,
        }
    }
}

/// Why a folder cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// Something in it cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing to serve.
    #[error("{} holds no file", .0.display())]
    Empty(PathBuf),
    /// There is more than a server keeps in memory.
    #[error("{} holds too much: at most {MAX_FILES} files of together {} MiB, {MAX_DEPTH} folders deep", .0.display(), MAX_BYTES >> 20)]
    TooMuch(PathBuf),
}

/// One file as it lies there; what differs when it has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    /// Where it is, links resolved.
    file: PathBuf,
    modified: Option<SystemTime>,
    bytes: u64,
}

/// The files of a folder that are served, by their paths in a URL.
fn list(folder: &Path) -> Result<BTreeMap<String, Found>, SiteError> {
    let failed = |path: &Path, source| SiteError::Read { path: path.to_owned(), source };
    let root = folder.canonicalize().map_err(|error| failed(folder, error))?;
    let mut found = BTreeMap::new();
    let mut total = 0;
    let mut folders = vec![(root.clone(), "/".to_owned(), 0)];
    while let Some((current, prefix, depth)) = folders.pop() {
        for entry in fs::read_dir(&current).map_err(|error| failed(&current, error))? {
            let entry = entry.map_err(|error| failed(&current, error))?;
            let Some(name) =
                entry.file_name().to_str().filter(|name| !name.starts_with('.')).map(str::to_owned)
            else {
                continue;
            };
            let kind = entry.file_type().map_err(|error| failed(&entry.path(), error))?;
            if kind.is_dir() {
                if depth >= MAX_DEPTH || folders.len() >= MAX_FILES {
                    return Err(SiteError::TooMuch(folder.to_owned()));
                }
                folders.push((entry.path(), format!("{prefix}{name}/"), depth + 1));
                continue;
            }
            // A link that leads nowhere is none of a file.
            let Ok(file) = entry.path().canonicalize() else { continue };
            let Ok(metadata) = fs::metadata(&file) else { continue };
            if !metadata.is_file() || !file.starts_with(&root) {
                continue;
            }
            total += metadata.len();
            if found.len() >= MAX_FILES || total > MAX_BYTES {
                return Err(SiteError::TooMuch(folder.to_owned()));
            }
            let modified = metadata.modified().ok();
            found.insert(format!("{prefix}{name}"), Found { file, modified, bytes: metadata.len() });
        }
    }
    Ok(found)
}

/// The present [`Site`] of a running server.
#[derive(Debug)]
pub struct Current {
    folder: Option<PathBuf>,
    /// What lay in the folder just before it was read first: whatever comes later is a change.
    listed: BTreeMap<String, Found>,
    site: RwLock<Arc<Site>>,
}

impl Current {
    /// The files of `folder`, or the pages in the program.
    ///
    /// # Errors
    /// See [`Site::read`].
    pub fn open(folder: Option<PathBuf>) -> Result<Arc<Self>, SiteError> {
        let (listed, site) = match &folder {
            Some(folder) => (list(folder)?, Arc::new(Site::read(folder)?)),
            None => (BTreeMap::new(), Site::embedded()),
        };
        Ok(Arc::new(Self { folder, listed, site: RwLock::new(site) }))
    }

    /// What is served now.
    #[must_use]
    pub fn site(&self) -> Arc<Site> {
        Arc::clone(&self.site.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the folder again whenever something in it has changed, until `stop`. What cannot be served is told in the log once, and the present
    /// files stay.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let Some(folder) = self.folder.clone() else { return };
        let mut seen = Some(Some(self.listed.clone()));
        while stop.run_until_cancelled(tokio::time::sleep(CHECK_INTERVAL)).await.is_some() {
            let now = look(folder.clone(), |folder| list(folder).ok()).await;
            if now == seen {
                continue;
            }
            seen = now;
            match look(folder.clone(), Site::read).await {
                Some(Ok(site)) => {
                    tracing::info!(folder = %folder.display(), files = site.files.len(), "changed pages in use");
                    *self.site.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(site);
                }
                Some(Err(error)) => {
                    tracing::error!(%error, "the changed pages cannot be served; the old ones stay");
                }
                None => {}
            }
        }
    }
}

/// Looks at the disk on a thread that may wait for it.
async fn look<T: Send + 'static>(folder: PathBuf, at: fn(&Path) -> T) -> Option<T> {
    tokio::task::spawn_blocking(move || at(&folder)).await.ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_pages_in_the_program_are_all_there_and_told_apart() {
        let site = Site::embedded();
        assert_eq!(site.files.len(), PAGES.len());
        let etag = |path| site.find(path).unwrap().plain.etag.clone();
        assert_eq!(etag("/"), etag("/index.html"));
        assert_ne!(etag("/"), etag("/style.css"));
        let style = site.find("/style.css").unwrap();
        let gzip = style.gzip().unwrap();
        assert!(gzip.bytes.len() < style.plain.bytes.len() / 2);
        assert_ne!(gzip.etag, style.plain.etag);
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&gzip.bytes[..]).read_to_end(&mut plain).unwrap();
        assert_eq!(plain, style.plain.bytes);
    }

    #[test]
    fn a_folder_gives_its_own_files_and_nothing_from_outside() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.txt"), "secret").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::create_dir(at(".git")).unwrap();
        for name in ["index.html", "a/index.html", "a/b/two words.txt", ".env", ".git/config", "logo.PNG"] {
            fs::write(at(name), name.repeat(100)).unwrap();
        }
        symlink(outside.path().join("secret.txt"), at("out.txt")).unwrap();
        symlink(outside.path(), at("outside")).unwrap();
        symlink("..", at("up")).unwrap();
        symlink(".", at("loop")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink("a/b/two words.txt", at("inside.txt")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();

        let site = Site::read(folder.path()).unwrap();
        let mut names: Vec<&str> = site.files.keys().map(String::as_str).collect();
        names.sort_unstable();
        let expected =
            ["/", "/a/", "/a/b/two words.txt", "/a/index.html", "/index.html", "/inside.txt", "/logo.PNG"];
        assert_eq!(names, expected);
        assert_eq!(site.find("/a/b/two%20words.txt").unwrap().content_type, "text/plain; charset=utf-8");
        let logo = site.find("/logo.PNG").unwrap();
        assert_eq!((logo.content_type, logo.gzip().is_none()), ("image/png", true));
        for path in
            ["/a", "/a/../index.html", "/a/%2e%2e/index.html", "/a%2findex.html%00", "/%ff", "//index.html"]
        {
            assert!(site.find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn a_folder_that_is_no_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = || Site::read(folder.path()).unwrap_err().to_string();
        assert!(refused().ends_with("holds no file"));
        let large = fs::File::create(folder.path().join("large")).unwrap();
        large.set_len(MAX_BYTES + 1).unwrap();
        assert!(refused().contains("holds too much"));
        large.set_len(1).unwrap();
        fs::create_dir_all(folder.path().join("a/".repeat(MAX_DEPTH + 1))).unwrap();
        assert!(refused().contains("holds too much"));
        let missing = Site::read(Path::new("/no/folder")).unwrap_err().to_string();
        assert!(missing.starts_with("cannot read /no/folder: "), "{missing}");
    }
}
