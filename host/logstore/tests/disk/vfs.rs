//! The VFS. It passes each call to SQLite's own, and tells the disk.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::mem::size_of;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once, OnceLock};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};

use super::{Change, Disk};

/// An open file. The memory behind it has the file of SQLite's own VFS.
#[repr(C)]
struct OpenFile {
    base: sqlite3_file,
    /// The disk and the path; none for a file elsewhere. A pointer from `Box::into_raw`.
    on_disk: *mut OnDisk,
}

struct OnDisk {
    disk: Arc<Disk>,
    path: PathBuf,
}

/// SQLite's own VFS. It lives as long as the process.
struct Inner(*mut sqlite3_vfs);

// SAFETY: SQLite uses its VFS from all threads.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

static INNER: OnceLock<Inner> = OnceLock::new();

/// Makes this VFS the default one.
pub(super) fn register() {
    static ONCE: Once = Once::new();
    // SAFETY: the VFS and its name are never freed, as SQLite demands.
    ONCE.call_once(|| unsafe {
        ffi::sqlite3_initialize();
        let inner = ffi::sqlite3_vfs_find(std::ptr::null());
        let mut vfs = std::ptr::read(inner);
        assert!(INNER.set(Inner(inner)).is_ok());
        vfs.zName = c"disk".as_ptr();
        vfs.pNext = null_mut();
        vfs.szOsFile += size_of::<OpenFile>() as c_int;
        vfs.xOpen = Some(open);
        vfs.xDelete = Some(delete);
        let vfs = Box::leak(Box::new(vfs));
        assert_eq!(ffi::sqlite3_vfs_register(vfs, 1), ffi::SQLITE_OK);
    });
}

fn inner() -> *mut sqlite3_vfs {
    INNER.get().unwrap().0
}

unsafe fn real(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: SQLite allocated the size that `register` asked for.
    unsafe { file.cast::<OpenFile>().add(1).cast() }
}

unsafe fn on_disk<'a>(file: *mut sqlite3_file) -> Option<&'a OnDisk> {
    // SAFETY: `open` set the pointer, and `close` frees it.
    unsafe { (*file.cast::<OpenFile>()).on_disk.as_ref() }
}

unsafe fn path(name: *const c_char) -> Option<PathBuf> {
    if name.is_null() {
        return None;
    }
    // SAFETY: SQLite passes a string with a terminating zero.
    let bytes = unsafe { CStr::from_ptr(name) }.to_bytes();
    Some(Path::new(OsStr::from_bytes(bytes)).to_owned())
}

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite calls this as its documentation says.
    unsafe {
        let path = path(name);
        let is_new = path.as_ref().is_some_and(|path| !path.exists());
        let code = (*inner()).xOpen.unwrap()(inner(), name, real(file), flags, out);
        let own = file.cast::<OpenFile>();
        (*own).on_disk = null_mut();
        (*own).base.pMethods = std::ptr::null();
        if code != ffi::SQLITE_OK {
            return code;
        }
        if let Some(path) = path
            && let Some(disk) = Disk::find(&path)
        {
            disk.open(&path, is_new);
            (*own).on_disk = Box::into_raw(Box::new(OnDisk { disk, path }));
        }
        (*own).base.pMethods = &METHODS;
        code
    }
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: as above.
    unsafe {
        let code = (*inner()).xDelete.unwrap()(inner(), name, sync);
        if code == ffi::SQLITE_OK
            && let Some(path) = path(name)
            && let Some(disk) = Disk::find(&path)
        {
            disk.delete(&path, sync != 0);
        }
        code
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: as above.
    unsafe {
        let own = file.cast::<OpenFile>();
        if !(*own).on_disk.is_null() {
            drop(Box::from_raw(std::mem::replace(&mut (*own).on_disk, null_mut())));
        }
        (*(*real(file)).pMethods).xClose.unwrap()(real(file))
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    bytes: *const c_void,
    length: c_int,
    at: sqlite3_int64,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        if let Some(OnDisk { disk, path }) = on_disk(file) {
            match disk.error_of_write(path) {
                0 => {}
                error => return error,
            }
            let bytes = std::slice::from_raw_parts(bytes.cast::<u8>(), length as usize);
            disk.change(path, Change::Write(at as usize, bytes.to_vec()));
        }
        (*(*real(file)).pMethods).xWrite.unwrap()(real(file), bytes, length, at)
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, length: sqlite3_int64) -> c_int {
    // SAFETY: as above.
    unsafe {
        if let Some(OnDisk { disk, path }) = on_disk(file) {
            disk.change(path, Change::Truncate(length as usize));
        }
        (*(*real(file)).pMethods).xTruncate.unwrap()(real(file), length)
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: as above.
    unsafe {
        if let Some(OnDisk { disk, path }) = on_disk(file) {
            let is_database = path.extension().is_some_and(|extension| extension == "db");
            let error = match is_database {
                true => disk.checkpoint_error.load(Ordering::SeqCst),
                false => disk.sync_error.load(Ordering::SeqCst),
            };
            if error != 0 {
                return error;
            }
            disk.sync(path);
            // The real sync is not needed: this process does not lose power.
            return ffi::SQLITE_OK;
        }
        (*(*real(file)).pMethods).xSync.unwrap()(real(file), flags)
    }
}

/// Defines functions that pass a call on.
macro_rules! pass {
    ($($name:ident => $method:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        $(unsafe extern "C" fn $name(file: *mut sqlite3_file, $($argument: $kind),*) -> $result {
            // SAFETY: as above.
            unsafe { (*(*real(file)).pMethods).$method.unwrap()(real(file), $($argument),*) }
        })*
    };
}

pass! {
    read => xRead(bytes: *mut c_void, length: c_int, at: sqlite3_int64) -> c_int;
    file_size => xFileSize(size: *mut sqlite3_int64) -> c_int;
    lock => xLock(level: c_int) -> c_int;
    unlock => xUnlock(level: c_int) -> c_int;
    check_lock => xCheckReservedLock(result: *mut c_int) -> c_int;
    control => xFileControl(operation: c_int, argument: *mut c_void) -> c_int;
    sector_size => xSectorSize() -> c_int;
    characteristics => xDeviceCharacteristics() -> c_int;
    shm_map => xShmMap(page: c_int, size: c_int, extend: c_int, memory: *mut *mut c_void) -> c_int;
    shm_lock => xShmLock(offset: c_int, count: c_int, flags: c_int) -> c_int;
    shm_barrier => xShmBarrier() -> ();
    shm_unmap => xShmUnmap(delete: c_int) -> c_int;
}

/// Version 2: without memory maps, which would write past this VFS.
static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_lock),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};
