"""The stage `redact-py`: its description. The module `transformer` has its sessions."""

import json

from wit_world import exports
from wit_world.exports.transformer import Description

from config import SCHEMA

VERSION = "0.1.0"


class Transformer(exports.Transformer):
    def describe(self):
        return Description(name="redact-py", version=VERSION, config_schema=json.dumps(SCHEMA))
