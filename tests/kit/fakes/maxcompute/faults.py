"""Errors of MaxCompute's servers that tests do to single requests, before or after these had their effect."""

import secrets
from dataclasses import dataclass

from kit.fakes.faults import Reset
from kit.fakes.maxcompute.refused import Refused


@dataclass(frozen=True)
class Refuse:
    """An error in JSON, in place of the true answer. Without `before` the request has had its effect."""

    status: int
    code: str
    before: bool = True
    hold: int | None = None

    def run(self, exchange):
        exchange.take() if self.before else exchange.forward()
        body = Refused(self.status, self.code, "Injected.", self.hold).json()
        headers = {"x-odps-request-id": secrets.token_hex(12)}
        exchange.respond(self.status, "application/json", body, headers)


INTERNAL_ERROR = Refuse(500, "InternalServerError")
FLOW_EXCEEDED = Refuse(429, "FlowExceeded", hold=50)
# The request had its effect, and its answer was lost.
LOST_ANSWER = Reset(before=False)
