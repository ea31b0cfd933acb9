//! Replacements of libc's functions, which first ask the simulated disk and then usually call the real ones. The other
//! definitions of these names in this program are libc's own.

use super::{Disks, Way, decide};
use callboard::env;
use libc::{c_char, c_int, c_void, mode_t, off64_t, size_t, ssize_t};
use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicPtr, Ordering};

/// libc's own function of a name, looked up once.
macro_rules! real {
    ($name:literal as $kind:ty) => {{
        static FOUND: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
        let mut found = FOUND.load(Ordering::Acquire);
        if found.is_null() {
            let name: *const c_char = $name.as_ptr();
            // SAFETY: the name is a C string.
            found = unsafe { libc::dlsym(libc::RTLD_NEXT, name) };
            assert!(!found.is_null(), "libc has this function");
            FOUND.store(found, Ordering::Release);
        }
        // SAFETY: the type is that of libc's function of this name.
        unsafe { std::mem::transmute::<*mut c_void, $kind>(found) }
    }};
}

/// Sets errno, as libc's callers expect.
fn fail(error: c_int) -> c_int {
    // SAFETY: libc's errno of this thread.
    unsafe { *libc::__errno_location() = error };
    -1
}

fn is_empty(descriptor: c_int) -> bool {
    super::status(descriptor).is_some_and(|status| status.st_size == 0)
}

/// # Safety
///
/// That of libc's function of this name; the same holds for the functions below.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(descriptor: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
    let count = match decide(|disks| disks.before_write(descriptor, None, count as u64)) {
        Way::Through => count,
        Way::Part(part) => part,
        Way::Swallow => return count as ssize_t,
        Way::Fail(error) => return fail(error) as ssize_t,
    };
    let real = real!(c"write" as unsafe extern "C" fn(c_int, *const c_void, size_t) -> ssize_t);
    // SAFETY: the caller's arguments, unchanged or with fewer of its bytes.
    unsafe { real(descriptor, bytes, count) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(
    descriptor: c_int,
    bytes: *const c_void,
    count: size_t,
    offset: off64_t,
) -> ssize_t {
    let question = |disks: &mut Disks| disks.before_write(descriptor, Some(offset as u64), count as u64);
    let count = match decide(question) {
        Way::Through => count,
        Way::Part(part) => part,
        Way::Swallow => return count as ssize_t,
        Way::Fail(error) => return fail(error) as ssize_t,
    };
    let real = real!(c"pwrite64" as unsafe extern "C" fn(c_int, *const c_void, size_t, off64_t) -> ssize_t);
    // SAFETY: the caller's arguments, unchanged or with fewer of its bytes.
    unsafe { real(descriptor, bytes, count, offset) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn read(descriptor: c_int, bytes: *mut c_void, count: size_t) -> ssize_t {
    if let Way::Fail(error) = decide(|disks| disks.before_read(descriptor)) {
        return fail(error) as ssize_t;
    }
    let real = real!(c"read" as unsafe extern "C" fn(c_int, *mut c_void, size_t) -> ssize_t);
    // SAFETY: the caller's arguments, unchanged.
    unsafe { real(descriptor, bytes, count) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pread64(
    descriptor: c_int,
    bytes: *mut c_void,
    count: size_t,
    offset: off64_t,
) -> ssize_t {
    if let Way::Fail(error) = decide(|disks| disks.before_read(descriptor)) {
        return fail(error) as ssize_t;
    }
    let real = real!(c"pread64" as unsafe extern "C" fn(c_int, *mut c_void, size_t, off64_t) -> ssize_t);
    // SAFETY: the caller's arguments, unchanged.
    unsafe { real(descriptor, bytes, count, offset) }
}

/// Variadic in libc; the mode is passed in the same register.
#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    if flags & libc::O_CREAT != 0 {
        // SAFETY: the caller's string.
        let way = decide(|disks| unsafe { disks.before_create(&path_of(path)) });
        if let Way::Fail(error) = way {
            return fail(error);
        }
    }
    let real = real!(c"open64" as unsafe extern "C" fn(*const c_char, c_int, mode_t) -> c_int);
    // SAFETY: the caller's arguments, unchanged except for the truncation, which follows as a separate call.
    let descriptor = unsafe { real(path, flags & !libc::O_TRUNC, mode) };
    if descriptor >= 0 && flags & libc::O_ACCMODE != libc::O_RDONLY {
        decide(|disks| disks.after_open(descriptor));
    }
    if descriptor >= 0 && flags & libc::O_TRUNC != 0 && !is_empty(descriptor) {
        // The file's content may come back after a power loss, and stays if no write reaches the disk any more. SAFETY: plain
        // numbers.
        if unsafe { ftruncate64(descriptor, 0) } != 0 {
            // SAFETY: libc's errno of this thread.
            let error = unsafe { *libc::__errno_location() };
            // SAFETY: a descriptor that no other code has.
            unsafe { libc::close(descriptor) };
            return fail(error);
        }
    }
    descriptor
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the caller's string.
    if let Way::Fail(error) = decide(|disks| unsafe { disks.before_create(&path_of(path)) }) {
        return fail(error);
    }
    let real = real!(c"mkdir" as unsafe extern "C" fn(*const c_char, mode_t) -> c_int);
    // SAFETY: the caller's arguments, unchanged.
    unsafe { real(path, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn lseek64(descriptor: c_int, offset: off64_t, whence: c_int) -> off64_t {
    let real = real!(c"lseek64" as unsafe extern "C" fn(c_int, off64_t, c_int) -> off64_t);
    // SAFETY: the caller's arguments, unchanged.
    let place = unsafe { real(descriptor, offset, whence) };
    if whence == libc::SEEK_CUR && offset == 0 && place > 0 {
        let mut told = None;
        decide(|disks| {
            told = disks.position_told(descriptor, place as u64);
            Way::Through
        });
        if let Some(told) = told {
            wait_while_held();
            return told as off64_t;
        }
    }
    place
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate64(descriptor: c_int, length: off64_t) -> c_int {
    match decide(|disks| disks.before_truncate(descriptor, length as u64)) {
        Way::Through | Way::Part(_) => {}
        Way::Swallow => return 0,
        Way::Fail(error) => return fail(error),
    }
    let real = real!(c"ftruncate64" as unsafe extern "C" fn(c_int, off64_t) -> c_int);
    // SAFETY: the caller's arguments, unchanged.
    unsafe { real(descriptor, length) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(descriptor: c_int) -> c_int {
    match decide(|disks| disks.before_sync(descriptor)) {
        Way::Through | Way::Part(_) => {}
        Way::Swallow => return 0,
        Way::Fail(error) => return fail(error),
    }
    let real = real!(c"fsync" as unsafe extern "C" fn(c_int) -> c_int);
    // SAFETY: the caller's argument, unchanged.
    unsafe { real(descriptor) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    match decide(|disks| disks.before_sync(descriptor)) {
        Way::Through | Way::Part(_) => {}
        Way::Swallow => return 0,
        Way::Fail(error) => return fail(error),
    }
    let real = real!(c"fdatasync" as unsafe extern "C" fn(c_int) -> c_int);
    // SAFETY: the caller's argument, unchanged.
    unsafe { real(descriptor) }
}

type Advise = unsafe extern "C" fn(c_int, off64_t, off64_t, c_int) -> c_int;

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_fadvise64(
    descriptor: c_int,
    offset: off64_t,
    length: off64_t,
    advice: c_int,
) -> c_int {
    if advice == libc::POSIX_FADV_DONTNEED {
        decide(|disks| disks.forget(descriptor));
    }
    let real = real!(c"posix_fadvise64" as Advise);
    // SAFETY: the caller's arguments, unchanged.
    unsafe { real(descriptor, offset, length, advice) }
}

/// # Safety
/// `path` must be a C string.
unsafe fn path_of(path: *const c_char) -> PathBuf {
    // SAFETY: promised by the caller.
    let bytes = unsafe { CStr::from_ptr(path) }.to_bytes();
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller's strings.
    match decide(|disks| unsafe { disks.before_rename(&path_of(from), &path_of(to)) }) {
        Way::Through | Way::Part(_) => {}
        Way::Swallow => return 0,
        Way::Fail(error) => return fail(error),
    }
    let real = real!(c"rename" as unsafe extern "C" fn(*const c_char, *const c_char) -> c_int);
    // SAFETY: the caller's arguments, unchanged.
    unsafe { real(from, to) }
}

/// All simulated disks have the same size, wherever the scratch directory is.
#[unsafe(no_mangle)]
unsafe extern "C" fn statvfs64(path: *const c_char, found: *mut libc::statvfs64) -> c_int {
    let real = real!(c"statvfs64" as unsafe extern "C" fn(*const c_char, *mut libc::statvfs64) -> c_int);
    // SAFETY: the caller's arguments, unchanged.
    let outcome = unsafe { real(path, found) };
    // SAFETY: the caller's string.
    if outcome == 0
        && let Some(short) = super::is_short(&unsafe { path_of(path) })
    {
        // SAFETY: the call has filled the structure.
        let found = unsafe { &mut *found };
        found.f_frsize = 4096;
        found.f_blocks = 1 << 20;
        found.f_bavail = if short { 1 } else { 1 << 19 };
    }
    outcome
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: the caller's string.
    match decide(|disks| unsafe { disks.before_unlink(&path_of(path)) }) {
        Way::Through | Way::Part(_) => {}
        Way::Swallow => return 0,
        Way::Fail(error) => return fail(error),
    }
    let real = real!(c"unlink" as unsafe extern "C" fn(*const c_char) -> c_int);
    // SAFETY: the caller's argument, unchanged.
    unsafe { real(path) }
}

/// A storage engine's own thread waits before it begins, and where it asks for the size of the journal before it writes a table.
/// There it holds the journal's lock, for which writers wait: a thread holds engines back only after it has let this one become
/// idle.
fn wait_while_held() {
    while env::are_engines_held() {
        std::thread::yield_now();
    }
}

/// The first call of a thread.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_setname_np(thread: libc::pthread_t, name: *const c_char) -> c_int {
    type SetName = unsafe extern "C" fn(libc::pthread_t, *const c_char) -> c_int;
    let real = real!(c"pthread_setname_np" as SetName);
    // SAFETY: the caller's arguments, unchanged.
    let outcome = unsafe { real(thread, name) };
    // SAFETY: the caller's string.
    if unsafe { CStr::from_ptr(name) }.to_bytes().starts_with(b"fjall") {
        wait_while_held();
    }
    outcome
}

/// Skips the millisecond that the storage engine sleeps after each merge, which the rehearsal would wait for.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_nanosleep(
    clock: libc::clockid_t,
    flags: c_int,
    time: *const libc::timespec,
    left: *mut libc::timespec,
) -> c_int {
    type Sleep =
        unsafe extern "C" fn(libc::clockid_t, c_int, *const libc::timespec, *mut libc::timespec) -> c_int;
    if super::is_engines_thread() {
        return 0;
    }
    let real = real!(c"clock_nanosleep" as Sleep);
    // SAFETY: the caller's arguments, unchanged.
    unsafe { real(clock, flags, time, left) }
}
