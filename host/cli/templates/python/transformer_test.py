import unittest
from types import SimpleNamespace

from batch import broken_invariant
from settings import InvalidSetting
from stage import Stage


class Dropping(unittest.TestCase):
    def test_drops_fields_by_key(self):
        batch = SimpleNamespace(
            groups=[None],
            keys=["password", "user"],
            times=[7, 8],
            nanos=[],
            log_groups=[0, 0],
            field_ends=[2, 3],
            field_keys=[0, 1, 1],
            value_ends=[6, 9, 12],
            values=b"secretannbob",
        )
        Stage("").drop_fields(batch)
        self.assertIsNone(broken_invariant(batch))
        self.assertEqual((batch.field_ends, batch.value_ends, batch.values), ([1, 2], [3, 6], b"annbob"))

    def test_rejects_invalid_setting_by_path(self):
        for config in ['{"drop": "a"}', '{"drop": [1]}']:
            with self.assertRaisesRegex(InvalidSetting, "^drop: "):
                Stage(config)
