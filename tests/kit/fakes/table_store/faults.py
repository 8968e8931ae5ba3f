"""Faults of Table Store."""

from dataclasses import dataclass

from kit.fakes.table_store.answers import Refused


@dataclass(frozen=True)
class Refuse:
    """An error in place of the true answer; without `before`, after the rows are stored."""

    code: str
    message: str = "Injected."
    before: bool = True

    def refused(self):
        return Refused(self.code, self.message)

    def run(self, exchange):
        if not self.before:
            exchange.rules.answer(exchange.request)
        refused = self.refused()
        # Like answers of gateways: without a signature.
        exchange.respond(refused.status, "application/x.pb", refused.body(), [("x-ots-requestid", "injected")])


@dataclass
class RowFault:
    """Fails single rows within a successful answer, `times` of them; with `stored`, after the row is stored."""

    code: str
    when: object = None
    times: int | None = 1
    stored: bool = False
    fired: int = 0

    def fires(self, table, key):
        if self.times is not None and self.fired >= self.times:
            return False
        if self.when is not None and not self.when(table, key):
            return False
        self.fired += 1
        return True
