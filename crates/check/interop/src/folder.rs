//! A folder that goes away with its test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A fresh folder under the system's temporary one; kept when the test panics, so
/// that what is in it can be looked at.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes one; `name` is for whoever finds it.
    ///
    /// # Panics
    /// When the file system refuses.
    pub fn new(name: &str) -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let path = std::env::temp_dir().join(format!("mainstay-{name}-{pid}-{n}"));
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Folder { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept: {}", self.path.display());
        } else {
            // A left-over folder in the temporary one is no failure.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
