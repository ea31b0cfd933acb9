//! Random numbers that crates request from the kernel. madsim answers libc's `getrandom` from the seed. Some crates (rand 0.8,
//! under raft) make the system call themselves, through libc's `syscall`, which is replaced here.

use libc::{c_char, c_long, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

type Syscall = unsafe extern "C" fn(c_long, usize, usize, usize, usize, usize, usize) -> c_long;

static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// libc's own function. Looked up without a lock, since std's locks use system calls.
fn real() -> Syscall {
    let mut found = REAL.load(Ordering::Acquire);
    if found.is_null() {
        let name: *const c_char = c"syscall".as_ptr();
        // SAFETY: the name is a C string; the next definition of `syscall` is libc's.
        found = unsafe { libc::dlsym(libc::RTLD_NEXT, name) };
        assert!(!found.is_null(), "libc has a syscall function");
        REAL.store(found, Ordering::Release);
    }
    // SAFETY: libc's function takes a number and up to six words; it ignores words that the call does not use.
    unsafe { std::mem::transmute::<*mut c_void, Syscall>(found) }
}

/// Replaces libc's function of this name in this program. Variadic integer arguments are passed in the same registers as these
/// parameters.
///
/// # Safety
/// That of the requested system call.
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(
    number: c_long,
    first: usize,
    second: usize,
    third: usize,
    fourth: usize,
    fifth: usize,
    sixth: usize,
) -> c_long {
    if number == libc::SYS_getrandom {
        // SAFETY: the caller's buffer and length, unchanged.
        return unsafe { libc::getrandom(first as *mut c_void, second, third as u32) } as c_long;
    }
    // SAFETY: the caller's arguments, unchanged.
    unsafe { real()(number, first, second, third, fourth, fifth, sixth) }
}
