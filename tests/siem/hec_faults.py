"""What an HTTP Event Collector does to single requests on bad days. Those of the proxy of stores do here as well:
`Reset`, `Silence`, `Trickle`, `Truncate` and `Run`, before an acceptance or after it. `ResetInBody` needs the proxy
itself before the collector, and that hands on nothing but plain HTTP."""

import sys
import time
from dataclasses import dataclass
from http.client import responses
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "stores"))
from faults import FaultyProxy, Reset, ResetInBody, Run, Silence, Trickle, Truncate  # noqa: E402, F401


@dataclass(frozen=True)
class Refuse:
    """An answer by a code. `number` is the event that it names as invalid, without a reason."""

    code: int
    retry_after: object = None
    before: bool = True
    status: int | None = None
    number: int | None = None

    def run(self, exchange):
        if not self.before:
            exchange.forward()
        headers = {} if self.retry_after is None else {"Retry-After": self.retry_after}
        exchange.respond(self.code, self.status, self.number, headers)


# What passes.
SERVER_BUSY = Refuse(9)
QUEUE_FULL = Refuse(26)
SHUTTING_DOWN = Refuse(23)
INTERNAL_ERROR = Refuse(8)
# What somebody has to do something about.
TOKEN_DISABLED = Refuse(1)
INVALID_TOKEN = Refuse(4)


@dataclass(frozen=True)
class Page:
    """An answer of something between, a load balancer say, that knows nothing of codes."""

    status: int = 502
    retry_after: object = None
    before: bool = True

    def run(self, exchange):
        if not self.before:
            exchange.forward()
        headers = {} if self.retry_after is None else {"Retry-After": self.retry_after}
        exchange.send_page(self.status, headers)


@dataclass(frozen=True)
class BusyAfter:
    """The first events of a request are accepted, and for the others the server is busy."""

    events: int
    retry_after: object = None

    def run(self, exchange):
        exchange.forward(most=self.events)
        headers = {} if self.retry_after is None else {"Retry-After": self.retry_after}
        exchange.respond(9, None, self.events, headers)


@dataclass(frozen=True)
class Slow:
    """The answer comes late."""

    seconds: float
    before: bool = True

    def run(self, exchange):
        if self.before:
            time.sleep(self.seconds)
        answer = exchange.forward()
        if not self.before:
            time.sleep(self.seconds)
        exchange.send(answer.head + answer.body)
        exchange.close_if(answer.ends)


@dataclass(frozen=True)
class Lose:
    """The events are accepted, and lost before they are indexed: nobody will ever acknowledge them."""

    def run(self, exchange):
        answer = exchange.forward(lost=True)
        exchange.send(answer.head + answer.body)
        exchange.close_if(answer.ends)


@dataclass(frozen=True)
class Unacknowledged:
    """The events are indexed, and yet nobody will ever acknowledge them."""

    def run(self, exchange):
        answer = exchange.forward(acknowledged=False)
        exchange.send(answer.head + answer.body)
        exchange.close_if(answer.ends)


def page(status):
    """What a server says that has no code for it."""
    reason = responses[status]
    return f"<!doctype html><html><head><title>{status} {reason}</title></head><body>{reason}</body></html>".encode()
