import unittest
from types import SimpleNamespace

from settings import InvalidSetting
from stage import Stage


class Formatting(unittest.TestCase):
    def test_message_has_the_fields_of_the_log(self):
        batch = SimpleNamespace(
            keys=["user", "text"], times=[7], field_ends=[2], field_keys=[0, 1], value_ends=[3, 7], values=b"anna\nb\xff"
        )
        (message,) = Stage("").messages(batch)
        expected = b'<134>1 1970-01-01T00:00:07Z - logship - - - {"user": "ann", "text": "a\\nb\\ufffd"}'
        self.assertEqual(message, expected)

    def test_rejects_invalid_setting_by_path(self):
        for config in ['{"app": 1}', '{"app": "a b"}', '{"app": ""}']:
            with self.assertRaisesRegex(InvalidSetting, "^app: "):
                Stage(config)
