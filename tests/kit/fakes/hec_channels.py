"""The acknowledgements of an HTTP Event Collector: for each channel numbers from 0 on, which a client asks about until
the events of that request are indexed. Then it is told so once, and the number is forgotten."""

import math
import time
import uuid

from kit.fakes.hec_events import Refused

NEVER = math.inf


class Channels:
    """The numbers that nobody has been told of."""

    def __init__(self):
        self._pending = {}
        self._next = {}

    def take(self, channel, ready):
        """The number of a request whose events are indexed from a time on."""
        number = self._next.get(channel, 0)
        self._next[channel] = number + 1
        self._pending.setdefault(channel, {})[number] = ready
        return number

    def told(self, channel, numbers):
        """Which of the numbers are indexed."""
        return {str(number): self._is_ready(channel, number) for number in numbers}

    def pending(self, channel):
        return sorted(self._pending.get(channel, {}))

    def _is_ready(self, channel, number):
        pending = self._pending.get(channel, {})
        if pending.get(number, NEVER) > time.monotonic():
            return False
        del pending[number]
        return True


def channel_of(request, required):
    """The channel that a request names in a header or its query."""
    named = request.headers.get("x-splunk-request-channel") or request.query.get("channel")
    if not named:
        if required:
            raise Refused(10)
        return None
    try:
        if str(uuid.UUID(named)) == named.lower():
            return named.lower()
    except ValueError:
        pass
    raise Refused(11)
