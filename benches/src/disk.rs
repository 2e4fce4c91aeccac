//! A disk that is full.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Octets of the disk.
const SIZE: usize = 256 << 10;

/// A small file system in memory, gone when dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Makes the folder and mounts it. `None`: only root may.
    pub fn mount(path: &Path) -> Option<Self> {
        std::fs::create_dir_all(path).expect("a folder");
        let size = format!("size={SIZE}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).output().ok()?;
        mounted.status.success().then(|| Self(path.to_owned()))
    }

    /// Leaves no room.
    pub fn fill(&self) {
        let mut size = SIZE;
        while size > 0 {
            let filler = self.0.join(format!("filler-{size}"));
            if std::fs::write(&filler, vec![b'x'; size]).is_err() {
                // what was written before it failed; there may be nothing
                let _none = std::fs::remove_file(&filler);
            }
            size /= 2;
        }
    }

    /// Takes away what filled it.
    pub fn empty(&self) {
        for entry in std::fs::read_dir(&self.0).expect("the disk").flatten() {
            if entry.file_name().to_string_lossy().starts_with("filler-") {
                std::fs::remove_file(entry.path()).expect("a filler");
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // who still uses it has it until then
        let _gone = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
