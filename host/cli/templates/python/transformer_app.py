"""The description of the stage `{{name}}`."""

import json

from wit_world import exports
from wit_world.exports.transformer import Description

from config import SCHEMA


class Transformer(exports.Transformer):
    def describe(self):
        return Description(name="{{name}}", version="0.1.0", config_schema=json.dumps(SCHEMA))
