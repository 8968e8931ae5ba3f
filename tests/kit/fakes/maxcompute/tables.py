"""Tables, their partitions and committed rows."""

import json
import re
from dataclasses import dataclass, field

from odps.models import TableSchema
from odps.tunnel.io.types import odps_schema_to_arrow_schema
from odps.types import Column, Partition, validate_data_type

from kit.fakes.maxcompute.refused import Refused

NAME = re.compile(r"\w{1,128}", re.ASCII)
# Letters, digits and some others: see MaxCompute's rules for values of partitions.
VALUE = re.compile(r"[\w\- :$#.!@]{1,255}", re.ASCII)


@dataclass
class TableColumn:
    name: str
    type: str
    nullable: bool = True
    comment: str = ""

    def json(self):
        said = {"name": self.name, "type": self.type, "comment": self.comment, "isNullable": self.nullable}
        return said | {"nullable": self.nullable, "column_id": f"id-{self.name}"}


def columns(specs):
    """Columns of pairs, or of texts such as `a bigint not null`."""
    made = []
    for spec in specs:
        name, kind = spec.split(" ", 1) if isinstance(spec, str) else spec
        kind = kind.strip().lower()
        nullable = not kind.endswith(" not null")
        kind = kind.removesuffix(" not null").strip()
        # An unknown type raises an error.
        validate_data_type(kind)
        made.append(TableColumn(name.lower(), kind, nullable))
    return made


@dataclass
class Table:
    """A table. `partitions` has lists of committed blocks by the partition's text. A table without keys has one, ""."""

    name: str
    columns: list
    keys: list = field(default_factory=list)
    partitions: dict = field(default_factory=dict)
    # Incremented with each change of columns.
    version: int = 0

    def __post_init__(self):
        if not self.keys:
            self.partitions[""] = []

    @property
    def schema(self):
        """The schema as pyodps knows it."""
        own = [Column(column.name, validate_data_type(column.type)) for column in self.columns]
        keys = [Partition(column.name, validate_data_type(column.type)) for column in self.keys]
        return TableSchema(columns=own, partitions=keys)

    @property
    def arrow_schema(self):
        return odps_schema_to_arrow_schema(self.schema)

    def json(self):
        own, keys = ([column.json() for column in of] for of in (self.columns, self.keys))
        return {"columns": own, "partitionKeys": keys}

    def xml(self):
        schema = json.dumps(self.json())
        head = f"<Name>{self.name}</Name><TableId>id</TableId><Owner>ALIYUN$tester</Owner>"
        return f'<Table>{head}<Schema format="Json"><![CDATA[{schema}]]></Schema></Table>'

    def partition(self, text, create=False):
        """Returns the text of a partition, in its one form. It must exist, unless it is created."""
        if not self.keys:
            if text:
                raise Refused(400, "InvalidPartitionSpec", f"Table {self.name} has no partitions.")
            return ""
        if not text:
            raise Refused(400, "MissingPartitionSpec", f"Table {self.name} has partitions.")
        levels = [level.partition("=") for level in text.split(",")]
        names = [name.strip().lower() for name, _, _ in levels]
        values = [value.strip().strip("'\"") for _, _, value in levels]
        if names != [key.name for key in self.keys] or not all(map(VALUE.fullmatch, values)):
            raise Refused(400, "InvalidPartitionSpec", f"{text} is no partition of table {self.name}.")
        text = ",".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
        if text not in self.partitions:
            if not create:
                raise Refused(404, "NoSuchPartition", f"Partition {text} of table {self.name} does not exist.")
            self.partitions[text] = []
        return text

    def change_columns(self, specs):
        """Changes the columns, as `ALTER TABLE` does. Sessions of before can't be committed any more."""
        self.columns, self.version = columns(specs), self.version + 1
