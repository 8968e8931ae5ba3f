"""Upload sessions of Tunnel."""

import secrets
from dataclasses import dataclass, field

from kit.fakes.maxcompute.refused import Refused
from kit.fakes.maxcompute.tables import Table

LIFE = 24 * 3600
# How long the server still knows an expired or committed session.
MEMORY = 24 * 3600
BLOCKS = 20_000


@dataclass
class Session:
    """An upload session. `puts` counts the uploads of blocks."""

    table: Table
    partition: str
    overwrite: bool
    created: float
    id: str = field(default_factory=lambda: f"2026{secrets.token_hex(14)}")
    status: str = "normal"
    blocks: dict = field(default_factory=dict)
    puts: int = 0
    commits: int = 0
    version: int = 0

    def __post_init__(self):
        self.version = self.table.version
        self._json = self.table.json()

    def json(self, blocks=True):
        listed = [{"BlockID": number, "CreateTime": ""} for number in sorted(self.blocks)] if blocks else []
        return {
            **{"UploadID": self.id, "Status": self.status, "UploadedBlockList": listed},
            **{"Schema": self._json, "MaxFieldSize": 8 << 20, "QuotaName": "default", "Owner": "ALIYUN$tester"},
        }

    def expire_at(self, now):
        if self.status == "normal" and now >= self.created + LIFE:
            self.status = "expired"

    def is_known(self, now):
        return now < self.created + LIFE + MEMORY

    def expect_open(self):
        if self.status != "normal":
            raise Refused(400, "StatusConflict", f"You cannot complete the operation: the session is {self.status}.")

    def put(self, number, block):
        self.expect_open()
        self.blocks[number] = block
        self.puts += 1

    def commit(self):
        self.expect_open()
        if self.version != self.table.version:
            raise Refused(409, "TableModified", f"Table {self.table.name} was changed.")
        self.commits += 1
        committed = self.table.partitions.setdefault(self.partition, [])
        if self.overwrite:
            committed.clear()
        committed.extend(block for _, block in sorted(self.blocks.items()))
        self.status = "closed"
