//! The demo page's files, embedded so that the binary alone serves them.

/// One file.
#[derive(Debug)]
pub(super) struct Asset {
    pub(super) name: &'static str,
    pub(super) content: &'static [u8],
}

impl Asset {
    /// The media type, by the name's end.
    pub(super) fn content_type(&self) -> &'static str {
        match self.name.rsplit('.').next() {
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            Some(_) | None => "application/octet-stream",
        }
    }
}

macro_rules! assets {
    ($($name:literal),* $(,)?) => {
        &[$(Asset {
            name: $name,
            content: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo/", $name)),
        }),*]
    };
}

/// All files of `assets/demo`; a test compares.
pub(super) const ASSETS: &[Asset] = assets![
    "agents-view.js",
    "agents.js",
    "app.js",
    "codes.js",
    "connection.js",
    "dom.js",
    "favicon.svg",
    "format.js",
    "index.html",
    "messages-view.js",
    "rooms-view.js",
    "rooms.js",
    "samples.js",
    "sparkline.js",
    "status-view.js",
    "style.css",
    "talk.js",
    "toasts.js",
];

/// The file at a path; `/` is the page itself.
pub(super) fn find(path: &str) -> Option<&'static Asset> {
    let name = path.strip_prefix('/')?;
    let name = if name.is_empty() { "index.html" } else { name };
    ASSETS.iter().find(|asset| asset.name == name)
}
