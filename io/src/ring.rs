//! How this process sets up its rings: completions wait for the next system call.
//!
//! By default the kernel interrupts the thread that owns a ring, with an interrupt between
//! processors, for every completion. An executor makes system calls all the time and looks at its
//! rings after each: the interruption is for nothing, and costs a tenth to a third of its CPU time.
//! `IORING_SETUP_COOP_TASKRUN` turns it off, but glommio cannot be told to set it. So its call that
//! makes a ring is wrapped when the program is linked (`build.rs`, `--wrap`), here the flag is
//! added, and the call goes on. A kernel before 5.19, which does not know the flag, refuses, and is
//! asked again without it.
#![allow(unsafe_code, reason = "it stands between a C library and the kernel")]

use std::ffi::{c_int, c_uint};

/// Run completions when the thread enters the kernel anyway.
const IORING_SETUP_COOP_TASKRUN: u32 = 1 << 8;

/// The beginning of the kernel's `struct io_uring_params`, as far as it is looked at.
#[repr(C)]
struct Params {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
}

unsafe extern "C" {
    /// liburing's own, under the name that the linker gives it.
    fn __real___sys_io_uring_setup(entries: c_uint, params: *mut Params) -> c_int;
}

/// Makes a ring; a descriptor, or below zero what went wrong.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap___sys_io_uring_setup(entries: c_uint, params: *mut Params) -> c_int {
    // SAFETY: liburing gives a pointer to its own parameters, and no other code has one.
    unsafe {
        (*params).flags |= IORING_SETUP_COOP_TASKRUN;
        let ring = __real___sys_io_uring_setup(entries, params);
        if ring >= 0 {
            return ring;
        }
        (*params).flags &= !IORING_SETUP_COOP_TASKRUN;
        __real___sys_io_uring_setup(entries, params)
    }
}
