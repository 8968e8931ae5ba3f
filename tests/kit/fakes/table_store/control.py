"""The control interface of the fake, for programs that are not its process: rows as JSON, and faults.

- `GET /_control/rows/TABLE`: all rows.
- `POST /_control/faults` with `{"code": ..., "times": ..., "before": ...}` or `{"row-code": ..., "times": ...}`.
"""

import json

from kit.fakes.http import Answer
from kit.fakes.table_store.faults import Refuse

PREFIX = "/_control/"


def answer(server, request):
    what, _, name = request.path[len(PREFIX) :].partition("/")
    if what == "rows" and name in server.tables:
        rows = [{"key": key, "columns": columns} for key, columns in server.tables[name].rows.items()]
        return Answer(200, json.dumps(rows, default=lambda value: value.hex()).encode(), {"Content-Type": "application/json"})
    if what == "faults" and request.method == "POST":
        fault = json.loads(request.body)
        times = fault.get("times", 1)
        if "row-code" in fault:
            server.fail_rows(fault["row-code"], times=times, stored=fault.get("stored", False))
        else:
            server.inject(Refuse(fault["code"], before=fault.get("before", True)), path="/*Row", times=times)
        return Answer(204)
    return Answer(404)
