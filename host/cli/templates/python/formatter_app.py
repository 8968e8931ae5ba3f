"""The description of the stage `{{name}}`."""

import json

from wit_world import exports
from wit_world.exports.formatter import Description, Transport

from config import SCHEMA


class Formatter(exports.Formatter):
    def describe(self):
        return Description(
            name="{{name}}", version="0.1.0", transport=Transport.SYSLOG, config_schema=json.dumps(SCHEMA)
        )
