"""Faults of an HTTP Event Collector: answers by its codes, and events that are lost."""

from dataclasses import dataclass


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
        exchange.refuse(self.code, self.status, self.number, headers)


# Errors that pass.
SERVER_BUSY = Refuse(9)
QUEUE_FULL = Refuse(26)
SHUTTING_DOWN = Refuse(23)
INTERNAL_ERROR = Refuse(8)
# Errors that an operator must fix.
TOKEN_DISABLED = Refuse(1)
INVALID_TOKEN = Refuse(4)


@dataclass(frozen=True)
class BusyAfter:
    """The first events of a request are accepted, and for the others the server is busy."""

    events: int
    retry_after: object = None

    def run(self, exchange):
        exchange.forward(most=self.events)
        headers = {} if self.retry_after is None else {"Retry-After": self.retry_after}
        exchange.refuse(9, None, self.events, headers)


@dataclass(frozen=True)
class Lose:
    """The events are accepted, and lost before they are indexed: nobody will ever acknowledge them."""

    def run(self, exchange):
        answer = exchange.forward(lost=True)
        exchange.deliver(answer)


@dataclass(frozen=True)
class Unacknowledged:
    """The events are indexed, and yet nobody will ever acknowledge them."""

    def run(self, exchange):
        answer = exchange.forward(acknowledged=False)
        exchange.deliver(answer)
