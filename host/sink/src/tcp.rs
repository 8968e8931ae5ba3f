//! The state of TCP connections, as Linux tells it.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use tokio::net::TcpStream;

/// TCP states, as Linux numbers them.
pub(crate) const ESTABLISHED: u8 = 1;
pub(crate) const CLOSED: u8 = 7;

/// Makes the connection drop unsent bytes when it is closed. They are resent over another connection, and a receiver
/// that recovers must not get them several times.
pub(crate) fn reset(stream: &TcpStream) {
    _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Returns true if the peer has neither closed nor reset the connection.
pub(crate) fn is_open(stream: &TcpStream) -> bool {
    state(stream.as_raw_fd()).is_ok_and(|state| state == ESTABLISHED)
}

/// Returns the TCP state of a connection.
pub(crate) fn state(socket: RawFd) -> io::Result<u8> {
    let (mut state, mut length) = (0, size_of::<u8>() as libc::socklen_t);
    // SAFETY: the socket is open. By tcp(7), the kernel writes at most `length` bytes of `tcp_info`, whose first field
    // is the state, a byte.
    let done = unsafe {
        libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut state).cast(), &mut length)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(state) }
}

/// Returns the number of sent bytes that the peer's TCP stack has not acknowledged.
pub(crate) fn unacknowledged(socket: RawFd) -> io::Result<usize> {
    let mut left: libc::c_int = 0;
    // SAFETY: the socket is open. By tcp(7), the kernel writes an int for `SIOCOUTQ`, which has the same number.
    let done = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &mut left) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(left.try_into().unwrap_or_default()) }
}
