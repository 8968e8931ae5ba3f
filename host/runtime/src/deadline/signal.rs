//! The signal and its handler.

use std::io;
use std::ptr;
use std::sync::atomic::Ordering;

use super::watcher::{CURRENT, Slot};
use crate::code::Code;

/// A signal that is otherwise unused and ignored by default. Go uses it for the same purpose.
pub(super) const SIGNAL: libc::c_int = libc::SIGURG;

/// Installs the signal handler of this process.
///
/// # Errors
/// If the operating system refuses it.
pub(super) fn install_handler() -> io::Result<()> {
    // SAFETY: a zeroed sigaction is valid. The handler has the signature for SA_SIGINFO and is
    // async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = (handle_signal as extern "C" fn(_, _, _)) as usize;
        // Restart interrupted system calls, and run on the alternate signal stack if there is one.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigemptyset(&mut action.sa_mask);
        if libc::sigaction(SIGNAL, &action, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Unblocks the signal in this thread, in case the parent process blocked it.
pub(super) fn unblock() {
    unblock_signals(&[SIGNAL]);
}

/// Unblocks the signals by which wasmtime's code traps, once per thread: blocked, they would end the process.
pub(crate) fn unblock_traps() {
    thread_local! {
        static UNBLOCKED: () = unblock_signals(&[libc::SIGILL, libc::SIGSEGV, libc::SIGFPE, libc::SIGBUS]);
    }
    UNBLOCKED.with(|()| ());
}

fn unblock_signals(signals: &[libc::c_int]) {
    // SAFETY: the signal set is initialized before it is used.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut());
    }
}

/// Diverts a thread with an overdue call to a trap, if it is in a function of the component. Runs as a signal
/// handler: it must not allocate or lock.
extern "C" fn handle_signal(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the pointer is null or points to the slot of this thread, and slots are never freed.
    let Some(slot) = (unsafe { CURRENT.get().as_ref() }) else { return };
    if !slot.is_overdue.load(Ordering::SeqCst) {
        return;
    }
    // SAFETY: the code lives until the call ends, and this handler interrupts the thread that ends it.
    let Some(code) = (unsafe { slot.code.load(Ordering::SeqCst).as_ref() }) else { return };
    // SAFETY: `context` comes from the system, for a handler with SA_SIGINFO.
    unsafe { divert(context.cast(), slot, code) };
}

/// Diverts an interrupted thread to the trap: at once if it is in a function of the component, otherwise when
/// it returns to one.
///
/// # Safety
/// `context` must be the argument of a handler for `SA_SIGINFO`, in the thread that owns the slot.
#[cfg(target_arch = "x86_64")]
unsafe fn divert(context: *mut libc::ucontext_t, slot: &Slot, code: &Code) {
    // SAFETY: the caller passes a valid context.
    let (registers, signal_stack) = unsafe { (&mut (*context).uc_mcontext.gregs, (*context).uc_stack) };
    let next = &mut registers[libc::REG_RIP as usize];
    if code.contains(*next as usize) {
        *next = code.trap() as libc::greg_t;
        return;
    }
    let top = registers[libc::REG_RSP as usize] as usize;
    let stack_base = slot.stack_base.load(Ordering::SeqCst);
    // The signal may have interrupted another handler, which runs on the alternate stack.
    let signal_stack_range = signal_stack.ss_sp.addr()..signal_stack.ss_sp.addr() + signal_stack.ss_size;
    if signal_stack_range.contains(&top) || stack_base < top {
        return;
    }
    for stack_word in (top.next_multiple_of(size_of::<usize>())..stack_base).step_by(size_of::<usize>()) {
        let stack_word: *mut usize = ptr::with_exposed_provenance_mut(stack_word);
        // SAFETY: the address is on the stack of this thread, between the stack pointer and a live frame.
        unsafe {
            if code.returns_to(stack_word.read_volatile()) {
                stack_word.write_volatile(code.trap());
            }
        }
    }
}

/// Does nothing: other machines use epochs, see [`Code::of`].
#[cfg(not(target_arch = "x86_64"))]
unsafe fn divert(_: *mut libc::ucontext_t, _: &Slot, _: &Code) {}
