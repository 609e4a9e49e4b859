//! The pages under `web/`, embedded in the binary.

/// One embedded file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Path in the URL.
    pub path: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// Its content.
    pub bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! page {
    ($path:literal, $content_type:expr) => {
        page!($path, $content_type, $path)
    };
    ($path:literal, $content_type:expr, $file:literal) => {
        Page {
            path: $path,
            content_type: $content_type,
            bytes: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/web", $file)),
        }
    };
}

/// Everything that is served.
pub const PAGES: &[Page] = &[
    page!("/", HTML, "/index.html"),
    page!("/index.html", HTML),
    page!("/style.css", CSS),
    page!("/icon.svg", SVG),
    page!("/app.js", SCRIPT),
    page!("/chat.js", SCRIPT),
    page!("/controls.js", SCRIPT),
    page!("/details.js", SCRIPT),
    page!("/dom.js", SCRIPT),
    page!("/filecard.js", SCRIPT),
    page!("/files.js", SCRIPT),
    page!("/graph.js", SCRIPT),
    page!("/ice.js", SCRIPT),
    page!("/identity.js", SCRIPT),
    page!("/limits.js", SCRIPT),
    page!("/link.js", SCRIPT),
    page!("/links.js", SCRIPT),
    page!("/sha256.js", SCRIPT),
    page!("/signaling.js", SCRIPT),
    page!("/stats.js", SCRIPT),
    page!("/store.js", SCRIPT),
    page!("/talk.js", SCRIPT),
    page!("/transfer.js", SCRIPT),
    page!("/view.js", SCRIPT),
    page!("/words.js", SCRIPT),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that was written but not entered in the table would be missing in the binary only.
    #[test]
    fn every_file_under_web_is_served() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let path = format!("/{name}");
            assert!(PAGES.iter().any(|page| page.path == path), "web/{name} is not in the table");
        }
    }
}
