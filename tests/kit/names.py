"""Resolves the names of tests to loopback, as a DNS server would: SDKs put a project or a bucket before the host."""

import os
import socket

ADDRESS = "127.0.0.1"
# TLS has no names that end with an address.
SERVICE = "logs.test"
OSS = "oss-local.test"
SUFFIXES = (f".{ADDRESS}", f".{SERVICE}", OSS)


def _resolve(host, *rest, **options):
    if isinstance(host, str) and host.endswith(SUFFIXES):
        host = ADDRESS
    return _system_resolve(host, *rest, **options)


_system_resolve, socket.getaddrinfo = socket.getaddrinfo, _resolve
os.environ["NO_PROXY"] = "*"
