"""Writers of numbered logs, and the counts of what became of them."""

import itertools
import threading
import time
from contextlib import suppress
from http.client import HTTPException

import duckdb

from kit import service

PAD = "x" * 60
# Seconds until a put is acknowledged.
PATIENCE = 600


class Writer(threading.Thread):
    """Puts numbered logs until `ended` is set, `logs` at a time. A put that is not acknowledged is sent again under its
    put id. `pad` makes the other field of a log."""

    def __init__(self, served, put_name, firsts, ended, logs=1000, pad=lambda: PAD):
        super().__init__(daemon=True)
        self.served, self.put_name, self.firsts, self.ended = served, put_name, firsts, ended
        self.logs, self.pad = logs, pad
        self.acknowledged, self.unanswered, self.refused = 0, 0, []

    def run(self):
        for sequence in itertools.count():
            if self.ended.is_set():
                return
            # One step of an iterator: no two writers get the same number.
            first = next(self.firsts)
            lines = "".join(f'{{"id":{number},"pad":"{self.pad()}"}}\n' for number in range(first, first + self.logs))
            self.put(f"{self.put_name}:{sequence}", lines)

    def put(self, put_id, lines):
        headers = {**self.served.admin.basic(), "x-logship-put-id": put_id}
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with suppress(OSError, HTTPException):
                reply = self.served.request("POST", f"/ingest/{service.PROJECT}/logs", lines, headers)
                if reply.status == 200:
                    self.acknowledged += reply.json()["accepted"]
                    return
                self.refused.append(reply.refusal())
            self.unanswered += 1
            time.sleep(0.05)


def write(test, served, writers, **how):
    """Starts so many writers. Returns them, and an event that ends them."""
    ended, firsts = threading.Event(), itertools.count(step=how.get("logs", 1000))
    test.addCleanup(ended.set)
    started = [Writer(served, f"writer-{number}", firsts, ended, **how) for number in range(writers)]
    for writer in started:
        writer.start()
    return started, ended


def end(writers, ended):
    """Ends writers. Returns the number of acknowledged logs: those are numbered from 0 on."""
    ended.set()
    for writer in writers:
        writer.join()
    return sum(writer.acknowledged for writer in writers)


def read_json(files):
    names = [str(file) for file in files]
    rows = duckdb.read_json(names, format="newline_delimited", columns={"id": "BIGINT"})
    return rows.to_arrow_table().column("id")


def twice(ids):
    """The number of ids besides the first of each."""
    return len(ids) - len(ids.unique())
