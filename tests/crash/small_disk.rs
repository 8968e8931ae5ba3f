//! A disk with little free space.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tempfile::TempDir;

use super::*;

/// A disk with little free space. Without root, a limit of the file size replaces it.
pub(crate) struct SmallDisk {
    pub(crate) directory: TempDir,
    pub(crate) mounted: bool,
    pub(crate) free_bytes: u64,
}

impl SmallDisk {
    /// Creates a disk with this free space. A file fills the rest; without it the service has enough space.
    pub(crate) fn new(free_bytes: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let filler = free_bytes + (16 << 20);
        let size = format!("size={}", free_bytes + filler);
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(directory.path());
        let mounted = mount.status().is_ok_and(|status| status.success());
        let disk = Self { directory, mounted, free_bytes };
        if mounted {
            fs::write(disk.filler(), vec![0; filler as usize]).unwrap();
        }
        disk
    }

    pub(crate) fn filler(&self) -> PathBuf {
        self.directory.path().join("filler")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn serve(&self) -> Server {
        if self.mounted {
            return Server::start(&mut serve(&self.data()), &self.data());
        }
        // If the signal is ignored, the write fails with an error.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
        let service = serve(&self.data());
        let server = Server::start(command.arg(service.get_program()).args(service.get_args()), &self.data());
        limit_files(&server, Some(self.free_bytes));
        server
    }

    pub(crate) fn free_space(&self, server: &Server) {
        if self.mounted {
            fs::remove_file(self.filler()).unwrap();
        } else {
            limit_files(server, getrlimit(Resource::Fsize).current);
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted {
            // A panic here would hide the failure of the test.
            let _ = Command::new("umount").arg(self.directory.path()).status();
        }
    }
}

/// Sets the maximum size of the service's files, in bytes.
pub(crate) fn limit_files(server: &Server, current: Option<u64>) {
    let limit = Rlimit { current, maximum: getrlimit(Resource::Fsize).maximum };
    prlimit(Some(Pid::from_child(&server.child.0)), Resource::Fsize, limit).unwrap();
}
