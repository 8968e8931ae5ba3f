"""A real rsyslogd as a receiver of syslog. It writes received messages and their parts to a file.

Debian has it, but not beside another syslog daemon. So its packages, and those that they need, are unpacked to a folder
(the variable LOGSHIP_RSYSLOG says which) and it runs from there, as nobody's service.
"""

import functools
import json
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kit import debian
from kit.names import ADDRESS
from kit.process import Process, free_port, temporary_folder
from kit.waiting import PATIENCE, wait_for

FOLDER = Path(os.environ.get("LOGSHIP_RSYSLOG", debian.FOLDER / "rsyslog"))
PACKAGES = ("rsyslog", "rsyslog-openssl")

CONFIGURATION = """
$AbortOnUncleanConfig on
global(
    workDirectory="{folder}" maxMessageSize="128k"
    parser.escapeControlCharactersOnReceive="{escape}" parser.dropTrailingLFOnReception="off"
    {tls}
)
template(name="json" type="list" option.jsonf="on") {{
    property(outname="rawmsg" name="rawmsg" format="jsonf")
    property(outname="pri" name="pri" format="jsonf")
    property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
    property(outname="hostname" name="hostname" format="jsonf")
    property(outname="app_name" name="app-name" format="jsonf")
    property(outname="procid" name="procid" format="jsonf")
    property(outname="msgid" name="msgid" format="jsonf")
    property(outname="structured_data" name="structured-data" format="jsonf")
    property(outname="msg" name="msg" format="jsonf")
    property(outname="tag" name="syslogtag" format="jsonf")
    property(outname="version" name="protocol-version" format="jsonf")
    property(outname="input" name="inputname" format="jsonf")
}}
main_queue(queue.type="direct")
ruleset(name="received" queue.type="direct") {{
    action(type="omfile" file="{received}" template="json" asyncWriting="off" flushOnTXEnd="on")
}}
action(type="omfile" file="{log}" asyncWriting="off" flushOnTXEnd="on")
{input}
"""
UDP = """
module(load="imudp")
input(type="imudp" address="127.0.0.1" port="{port}" ruleset="received" rcvbufSize="8m")
"""
TCP = """
module(load="imtcp" maxFrameSize="200000" {driver})
input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="received")
"""


@dataclass(frozen=True)
class Message:
    """A message as it was understood. What is no UTF-8 in it became surrogates, as file names have them. RFC 5424 and
    RFC 3164 are `version` 1 and 0."""

    rawmsg: str
    pri: int
    time: str
    hostname: str
    app_name: str
    procid: str
    msgid: str
    structured_data: str
    msg: str
    tag: str
    version: int
    input: str

    @property
    def data(self):
        """The received bytes, without the frame."""
        return self.rawmsg.encode("utf-8", "surrogateescape")

    @property
    def text(self):
        """The message itself. The space before it is of the header."""
        return self.msg.removeprefix(" ")


class Rsyslog(Process):
    """An rsyslogd at a free port, for one test case.

    `protocol` is `udp`, `tcp` or `tls`; over the latter two it understands octet counting, and lines as well. TLS takes
    a `pair` of a certificate and its key, and with `clients`, the file of an authority, clients have to have a
    certificate of it. With `escape`, control characters come in as rsyslog has them by default, #012 for a newline.
    """

    def __init__(self, test, protocol="tcp", pair=None, clients=None, escape=False):
        self.protocol, self.pair, self.clients, self.escape = protocol, pair, clients, escape
        self.folder = temporary_folder(test)
        super().__init__(test, self.folder / "stderr")
        self.received, self.messages_of_itself = self.folder / "received", self.folder / "log"
        self.program = unpacked()
        self.port = free_port(_kind(protocol))
        self.start()

    @property
    def address(self):
        return ADDRESS, self.port

    def start(self):
        """Starts it, or starts it again, at the port that it has."""
        configuration = self.folder / "rsyslog.conf"
        configuration.write_text(self._configuration())
        command = [self.program / "usr/sbin/rsyslogd", "-n", "-iNONE", "-f", configuration]
        libraries = self.program / "usr/lib" / _architecture()
        self._drop_torn_line()
        command += ["-M", libraries / "rsyslog"]
        self.spawn(command, {"LD_LIBRARY_PATH": libraries}, append=True, stdin=subprocess.DEVNULL)
        wait_for(self._listens, message=lambda: f"rsyslogd does not listen:\n{self.said()}")

    def stop(self):
        """Ends it as a supervisor does."""
        if self.is_alive():
            self.terminate()
            try:
                self.code(PATIENCE)
            except AssertionError:
                self.kill()
                raise

    def _drop_torn_line(self):
        """Removes the incomplete line that a kill left, as the next message would continue it."""
        written = self.received.read_bytes() if self.received.exists() else b""
        if written and not written.endswith(b"\n"):
            os.truncate(self.received, written.rfind(b"\n") + 1)

    def messages(self):
        """All messages that were written so far."""
        if not self.received.exists():
            return []
        text = self.received.read_bytes().decode("utf-8", "surrogateescape")
        return [_message(line) for line in text.split("\n")[:-1]]

    def wait_for(self, count, patience=PATIENCE):
        """The messages, once there are so many."""
        wait_for(lambda: self._count() >= count, patience, lambda: f"{self._count()} of {count}\n{self.said()}", 0.05)
        return self.messages()

    def said(self):
        """Its own messages."""
        files = [file for file in (self.log, self.messages_of_itself) if file.exists()]
        return "\n".join(file.read_text(errors="replace") for file in files)

    def _count(self):
        return self.received.read_bytes().count(b"\n") if self.received.exists() else 0

    def _listens(self):
        if not self.is_alive():
            raise AssertionError(f"rsyslogd ended:\n{self.said()}")
        return _is_bound(self.port, self.protocol)

    def _configuration(self):
        values = {
            "folder": self.folder,
            "received": self.received,
            "log": self.messages_of_itself,
            "tls": "",
            "driver": "",
        }
        values["escape"] = "on" if self.escape else "off"
        if self.protocol == "tls":
            values["tls"], values["driver"] = self._tls()
        listening = (UDP if self.protocol == "udp" else TCP).format(port=self.port, **values)
        return CONFIGURATION.format(input=listening, **values)

    def _tls(self):
        files = {"CertFile": self.pair.certificate, "KeyFile": self.pair.key}
        files["CAFile"] = self.clients or self.pair.certificate
        mode = "x509/certvalid" if self.clients else "anon"
        driver = f'streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="{mode}"'
        named = " ".join(f'defaultNetstreamDriver{name}="{file}"' for name, file in files.items())
        return f'defaultNetstreamDriver="ossl" {named}', driver


def unpacked():
    """The folder with rsyslog in it."""
    return debian.unpacked(FOLDER, PACKAGES, "usr/sbin/rsyslogd")


@functools.cache
def _architecture():
    """The folder of libraries of this machine."""
    (folder,) = (unpacked() / "usr/lib").glob("*/rsyslog")
    return folder.parent.name


def _is_bound(port, protocol):
    """Whether a process listens."""
    with socket.socket(type=_kind(protocol)) as tried:
        try:
            if protocol == "udp":
                tried.bind((ADDRESS, port))
                return False
            tried.connect((ADDRESS, port))
        except OSError:
            return protocol == "udp"
    return True


def _kind(protocol):
    return socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM


def _message(line):
    members = json.loads(line, strict=False)
    return Message(**{**members, "pri": int(members["pri"]), "version": int(members["version"])})
