"""A fake of Alibaba Cloud Table Store, as strict as the original about signatures, checksums, limits and keys.

`python -m kit.fakes.table_store` runs it alone, with a control interface (`control`).
"""

from kit.fakes.table_store.answers import Refused
from kit.fakes.table_store.faults import Refuse
from kit.fakes.table_store.server import INSTANCE, REGION, Server

__all__ = ["INSTANCE", "REGION", "Refuse", "Refused", "Server"]
