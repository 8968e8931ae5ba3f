"""`logship function check` and `serve` with manifests that are wrong or odd: each problem has its file and line."""

import os
import subprocess
import unittest

from kit.application import manifest
from kit.paths import FUNCTIONS, PROGRAM
from kit.process import temporary_folder

HEAD = 'spin_manifest_version = 2\n[application]\nname = "test"\n'
TRIGGER = '[[trigger.http]]\nroute = "/v1/ship/:rule"\ncomponent = "one"\n'
COMPONENT = f'[component.one]\nsource = "{FUNCTIONS}/trigger-http.wasm"\n'


class Manifests(unittest.TestCase):
    def run_with(self, text, *command):
        folder = temporary_folder(self)
        (folder / "spin.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
        command = [PROGRAM, "function", *command]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, env={})

    def problems(self, text, *expected):
        """Checks that each expected problem is reported. An expected one is its line and words."""
        done = self.run_with(text, "check", "--spin", "4.1.0")
        printed = [line.removeprefix("error: ") for line in (done.stdout + done.stderr).splitlines()]
        for number, words in expected:
            begin = f"spin.toml:{number}: "
            self.assertTrue([line for line in printed if line.startswith(begin) and words in line], (begin, words, printed))
        return done.returncode

    def test_lines_of_any_notation(self):
        wrong, missing = '["https://good.example", "a.b"]', '"none.wasm"'
        for component in [
            f'[component."one"]\nsource = {missing}\nallowed_outbound_hosts = {wrong}\n',
            f"[ component . one ] # mine\nsource = {missing}\nallowed_outbound_hosts = {wrong}\n",
            f"[component]\none.source = {missing}\none.allowed_outbound_hosts = {wrong}\n",
            f'[variables.x]\ndefault = """\n[component.one]\nsource = 1"""\n[component.one]\nsource = {missing}\n'
            f"allowed_outbound_hosts = {wrong}\n",
        ]:
            for text in HEAD + TRIGGER + component, (HEAD + TRIGGER + component).replace("\n", "\r\n"):
                lines = text.split("\n")
                at = {name: 1 + max(n for n, line in enumerate(lines) if name in line) for name in (missing, "a.b")}
                with self.subTest(text):
                    self.assertEqual(self.problems(text, (at[missing], "none.wasm: No such file"), (at["a.b"], '"a.b" has no scheme')), 1)

    def test_each_entry_has_its_line(self):
        text = (
            HEAD + TRIGGER + "[variables]\nneeded = { required = true }\nUpper = { default = '1' }\n" + COMPONENT
            + 'allowed_outbound_hosts = [\n  "https://good.example",\n  "https://",\n  "{{ none }}",\n]\n'
            + '[component.one.variables]\nbb = "{{ needed }}"\nb = "{{ none }}"\nc = "{{"\n'
        )
        at = {line.strip(): number for number, line in enumerate(text.split("\n"), 1)}
        self.problems(
            text,
            (at['"https://",'], "is invalid"),
            (at['"{{ none }}",'], '"none" is not defined'),
            (at['bb = "{{ needed }}"'], "SPIN_VARIABLE_NEEDED"),
            (at['b = "{{ none }}"'], '"none" is not defined'),
            (at['c = "{{"'], "without a closing"),
            (at["Upper = { default = '1' }"], "a name that Spin rejects"),
        )

    def test_triggers(self):
        whole = manifest({"lake": {}})
        end = whole.count("\n") + 1
        other = '[[trigger.cron]]\ncomponent = "trigger-http"\n'
        self.assertEqual(self.problems(whole + other, (end, "advice: trigger.cron is not checked")), 0)
        self.assertEqual(self.problems(HEAD + COMPONENT + other.replace("trigger-http", "one"), (6, "no HTTP or Redis trigger")), 1)
        self.problems(HEAD + TRIGGER.replace('"one"', '"two"') + COMPONENT, (6, '"two", which is not defined'))
        for route in "v1", "/a/.../b":
            self.problems(HEAD + TRIGGER.replace("/v1/ship/:rule", route) + COMPONENT, (5, f'the route "{route}" is invalid'))
        self.problems(HEAD + TRIGGER * 2 + COMPONENT, (8, "advice: another trigger has the route"))
        redis = '[[trigger.redis]]\naddress = "redis://a:6379"\nchannel = "a"\ncomponent = "one"\n'
        second = redis.replace("redis://", "http://")
        self.problems(HEAD + redis + second + COMPONENT, (8, '"http://a:6379" is no Redis'))

    def test_misspelled_setting_is_advice(self):
        whole = manifest({"lake": {}}).replace("allowed_outbound_hosts =", "allowed_outbound_host =")
        number = 1 + [line.startswith("allowed_outbound_host ") for line in whole.split("\n")].index(True)
        words = "advice: component trigger-http: unknown setting allowed_outbound_host"
        self.assertEqual(self.problems(whole, (number, words)), 0)

    def test_files_that_never_end_are_rejected(self):
        folder = temporary_folder(self)
        os.mkfifo(folder / "pipe")
        for file in folder, folder / "pipe", "/dev/zero":
            text = HEAD + TRIGGER + COMPONENT.replace(f"{FUNCTIONS}/trigger-http.wasm", str(file))
            for command in ("check", "--spin", "4.1"), ("serve",), ("compose", "-o", "out.wasm", "--component", "one"):
                done = self.run_with(text, *command)
                self.assertEqual(done.returncode, 1, done)
                self.assertIn("not a file", done.stdout + done.stderr)

    def test_no_manifest_is_accepted_that_spin_does_not_read(self):
        whole = manifest({})
        for text, words in [
            ("", "spin_manifest_version"),
            (b"\xff\xfe", "UTF-8"),
            ('spin_version = "1"', "spin_manifest_version"),
            (whole.replace("version = 2", "version = 3"), "spin.toml:2: spin_manifest_version: version 3 is not supported"),
            (whole + "[component.trigger-http]\n", "duplicate key"),
            (whole.replace("[[trigger.http]]", "[trigger.http]"), "line "),
            (whole + "x = " + "[" * 100_000, "line "),
            (whole.replace('{ path = "', '{ registry = "'), "expected `path`"),
            (whole.replace("source = ", "source = 7 # "), "line "),
        ]:
            with self.subTest(words):
                for command in ("check", "--spin", "4.1"), ("serve",):
                    done = self.run_with(text, *command)
                    self.assertEqual(done.returncode, 1, done.stdout[-500:] + done.stderr[-500:])
                    self.assertIn("spin.toml", done.stderr)
                    self.assertIn(words, done.stderr)
                    self.assertNotIn("panicked", done.stderr)


if __name__ == "__main__":
    unittest.main()
