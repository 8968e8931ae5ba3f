"""A fake of MaxCompute: the service's API and Tunnel's uploads, at least as strict as the original.

`server` has the requests of both, `auth` their signatures, `tables` tables and partitions, `sessions` uploads, `blocks`
the formats of rows, `sql` statements that define tables, `faults` errors of both servers.

Pyodps and pyarrow decode the rows; `blocks` rejects what they are too lenient about.
"""

from kit.fakes.maxcompute.faults import FLOW_EXCEEDED, INTERNAL_ERROR, LOST_ANSWER, Refuse
from kit.fakes.maxcompute.server import Server
from kit.fakes.maxcompute.tables import Table

__all__ = ["FLOW_EXCEEDED", "INTERNAL_ERROR", "LOST_ANSWER", "Refuse", "Server", "Table"]
