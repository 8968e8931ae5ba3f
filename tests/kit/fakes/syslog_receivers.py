"""Receivers of syslog at free ports of loopback, over UDP, TCP and TLS. They keep messages unchanged, are
strict about framing, and do to single connections what networks and servers do on bad days."""

import socket
import ssl
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass

from kit.fakes.syslog_frames import Broken, Octets

ADDRESS = "127.0.0.1"
PIECE = 1 << 16
LONGEST_DATAGRAM = 1 << 16


@dataclass(frozen=True)
class Message:
    """A message without its frame. `connection` is the number of its connection, from 1 on."""

    data: bytes
    connection: int = 0


@dataclass
class Connection:
    """A connection as it was: the certificate of its client, how many messages came, how many bytes of one more, and
    how it ended: `closed` by the client (over TLS as the RFC wants it), `cut` where TLS ended without a word, `reset`,
    `broken` where it was no syslog, no handshake (`refused`), or by the receiver (`dropped`)."""

    number: int
    certificate: dict | None = None
    messages: int = 0
    rest: int = 0
    ended: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Refuse:
    """The connection is reset when it was accepted, before a handshake."""

    def begin(self, session):
        session.drop(reset=True)

    def received(self, session):
        pass


@dataclass(frozen=True)
class Drop:
    """The connection ends after so many messages, or so many bytes."""

    messages: int | None = None
    octets: int | None = None
    reset: bool = True

    def begin(self, session):
        if self.octets is not None:
            session.most = self.octets

    def received(self, session):
        enough = self.messages is not None and session.seen.messages >= self.messages
        if enough or (self.octets is not None and session.octets >= self.octets):
            session.drop(self.reset)


@dataclass(frozen=True)
class Stall:
    """Nothing more is read after so many messages, until the receiver stops or drops its connections."""

    messages: int = 0

    def begin(self, session):
        self.received(session)

    def received(self, session):
        if session.seen.messages >= self.messages:
            session.stall()


@dataclass(frozen=True)
class Slow:
    """Little is read at a time, with pauses."""

    pause: float = 0.01
    size: int = 100

    def begin(self, session):
        session.piece = self.size

    def received(self, session):
        # Once a piece, not once a message of it.
        if session.octets > session.paused_at:
            session.paused_at = session.octets
            time.sleep(self.pause)


class _Receiver:
    """A receiver, from its construction until `stop`."""

    def __init__(self, kind):
        self._kind = kind
        self.messages = []
        self.port = 0
        self.lock = threading.Lock()
        self.start()

    @property
    def address(self):
        return ADDRESS, self.port

    def data(self):
        """The messages so far."""
        with self.lock:
            return [message.data for message in self.messages]

    def start(self):
        """Listens; again, at the port that it had."""
        self._socket = socket.socket(socket.AF_INET, self._kind)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((ADDRESS, self.port))
        self.port = self._socket.getsockname()[1]
        self._listen()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._socket,), daemon=True)
        self._thread.start()

    def stop(self):
        """Refuses what comes from now on."""
        self._stopping.set()
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join()
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Datagrams(_Receiver):
    """Receives over UDP, a message a datagram."""

    def __init__(self):
        super().__init__(socket.SOCK_DGRAM)

    def _listen(self):
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)

    def _run(self, listening):
        while True:
            data = listening.recv(LONGEST_DATAGRAM)
            # The shutdown of a UDP socket wakes its reader with an empty datagram.
            if self._stopping.is_set():
                return
            with self.lock:
                self.messages.append(Message(data))


class Stream(_Receiver):
    """Receives over TCP, or TLS where there is a context. `frames` is `Octets` or `Lines`. The system holds `buffer`
    bytes for it, or many."""

    def __init__(self, frames=Octets, context=None, buffer=None):
        self.frames, self.context, self.buffer = frames, context, buffer
        self.connections = []
        self._faults = deque()
        self._sessions = set()
        super().__init__(socket.SOCK_STREAM)

    def inject(self, *injected):
        """Does a fault to each of the next connections. None leaves one as it is."""
        self._faults += injected

    def problems(self):
        """The errors of connections, and the rests of incomplete messages."""
        with self.lock:
            wrong = [seen for seen in self.connections if seen.problem or (seen.rest and seen.ended == "closed")]
            return [seen.problem or f"{seen.rest} bytes of a message" for seen in wrong]

    def drop(self, reset=True):
        """Ends all connections that there are, in the middle of messages too."""
        with self.lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.end(reset)
        for session in sessions:
            session.join()

    def stop(self, reset=False):
        """Ends all connections, and refuses others."""
        super().stop()
        self.drop(reset)

    def _listen(self):
        if self.buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.buffer)
        self._socket.listen(128)

    def _run(self, listening):
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            fault = self._faults.popleft() if self._faults else None
            with self.lock:
                seen = Connection(len(self.connections) + 1)
                self.connections.append(seen)
                session = _Session(self, connection, seen, fault)
                self._sessions.add(session)
            session.start()

    def ended(self, session):
        with self.lock:
            self._sessions.discard(session)


class _Dropped(Exception):
    pass


class _Session(threading.Thread):
    """A connection in the course of it."""

    def __init__(self, receiver, connection, seen, fault):
        super().__init__(daemon=True)
        self.receiver, self.connection, self.seen, self.fault = receiver, connection, seen, fault
        self.frames = receiver.frames()
        self.octets, self.piece, self.most, self.paused_at = 0, PIECE, None, 0
        self._free, self._resets = threading.Event(), False

    def run(self):
        try:
            if self.fault:
                self.fault.begin(self)
            self._shake_hands()
            while data := self._read():
                self._take(data)
            self._say_goodbye()
            self._over("closed")
        except Broken as broken:
            self._resets = True
            self._over("broken", str(broken))
        except _Dropped:
            self._over("dropped")
        except ssl.SSLEOFError:
            self._over("cut")
        except ssl.SSLError as error:
            self._over("refused", f"TLS: {error.reason}")
        except OSError:
            self._over("reset")
        self.end(self._resets)
        self.receiver.ended(self)

    def _shake_hands(self):
        if self.receiver.context:
            wrapped = self.receiver.context.wrap_socket(
                self.connection, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
            self.connection = wrapped
            wrapped.do_handshake()
            self.seen.certificate = wrapped.getpeercert() or None

    def _say_goodbye(self):
        """Answers the end of TLS. A client need not wait for that."""
        try:
            if self.receiver.context:
                self.connection.unwrap()
        except OSError:
            pass

    def _read(self):
        if self._free.is_set():
            raise _Dropped
        left = self.piece if self.most is None else min(self.piece, self.most - self.octets)
        return self.connection.recv(left)

    def _take(self, data):
        try:
            for message in self.frames.feed(data):
                with self.receiver.lock:
                    self.receiver.messages.append(Message(message, self.seen.number))
                self.seen.messages += 1
                if self.fault:
                    self.fault.received(self)
        finally:
            self.seen.rest = len(self.frames.rest)
        self.octets += len(data)
        if self.fault:
            self.fault.received(self)

    def drop(self, reset):
        """Ends the connection from within."""
        self.end(reset)
        raise _Dropped

    def stall(self):
        """Waits until somebody else ends the connection."""
        self._free.wait()
        raise _Dropped

    def end(self, reset):
        """Ends the connection, or wakes the thread that reads it to do so."""
        self._over("dropped")
        self._resets = self._resets or reset
        self._free.set()
        try:
            if reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # The shutdown of TLS would take the keys from the reader. Nothing is sent before a reset.
            socket.socket.shutdown(self.connection, socket.SHUT_RD if reset else socket.SHUT_RDWR)
        except OSError:
            pass
        if threading.current_thread() is self:
            self.connection.close()

    def _over(self, ended, problem=None):
        if self.seen.ended is None:
            self.seen.ended, self.seen.problem = ended, problem
