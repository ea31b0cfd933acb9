//! Random numbers that crates ask the kernel for. madsim answers libc's `getrandom` from the seed; some crates (rand 0.8,
//! under raft) make the system call themselves, through libc's `syscall`, which is replaced here.

use libc::{c_char, c_long, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

type Syscall = unsafe extern "C" fn(c_long, usize, usize, usize, usize, usize, usize) -> c_long;

static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// libc's own function. Looked up without a lock: std's locks use system calls.
fn real() -> Syscall {
    let mut found = REAL.load(Ordering::Acquire);
    if found.is_null() {
        let name: *const c_char = c"syscall".as_ptr();
        // SAFETY: the name is a C string; the next definition of `syscall` is libc's.
        found = unsafe { libc::dlsym(libc::RTLD_NEXT, name) };
        assert!(!found.is_null(), "libc has a syscall function");
        REAL.store(found, Ordering::Release);
    }
    // SAFETY: libc's function takes a number and up to six words; words that were not passed are not looked at.
    unsafe { std::mem::transmute::<*mut c_void, Syscall>(found) }
}

/// Stands before libc's function of this name in this program. Variadic integer arguments travel in the same registers
/// as these do.
///
/// # Safety
/// That of the system call that is asked for.
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
        // SAFETY: the caller's buffer and length, as they are.
        return unsafe { libc::getrandom(first as *mut c_void, second, third as u32) } as c_long;
    }
    // SAFETY: the caller's arguments, as they are.
    unsafe { real()(number, first, second, third, fourth, fifth, sixth) }
}
