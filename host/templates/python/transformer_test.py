import unittest
from types import SimpleNamespace

from batch import broken
from settings import Wrong
from stage import Stage


class Dropping(unittest.TestCase):
    def test_fields_are_left_out_by_key(self):
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
        Stage("").leave_out(batch)
        self.assertIsNone(broken(batch))
        self.assertEqual((batch.field_ends, batch.value_ends, batch.values), ([1, 2], [3, 6], b"annbob"))

    def test_a_wrong_setting_is_named(self):
        for config in ['{"drop": "a"}', '{"drop": [1]}']:
            with self.assertRaisesRegex(Wrong, "^drop: "):
                Stage(config)
