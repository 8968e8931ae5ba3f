"""SIGHUP: a closed terminal, or `kill -HUP` of a logrotate script. It ends a command as SIGTERM does, and never at once."""

import os
import signal
import subprocess
import unittest

from kit import service
from kit.fakes.hec import TOKEN, Collector
from kit.paths import PROGRAM
from kit.process import Process, temporary_folder
from kit.waiting import wait_for


class Hangup(unittest.TestCase):
    def hang_up(self, process, times=2):
        """Sends SIGHUP, several times. The process ends well."""
        for _ in range(times):
            if process.is_alive():
                process.process.send_signal(signal.SIGHUP)
        self.assertEqual(process.code(), 0, process.said())

    def test_serve_ends_gracefully(self):
        served = service.Service(self)
        logstore = served.logstore("logs")
        subprocess.run([PROGRAM, "put", "logs", "-"], input=b'{"a":"1"}\n', env=self.place(served), check=True)
        self.hang_up(served)
        self.assertIn("every acknowledged request is on disk", served.said())
        served.start()
        logstore = service.Logstore(served.client(), "logs")
        self.assertEqual([log.fields for log in logstore.logs()], [(("a", "1"),)])

    def test_serve_stays_under_nohup(self):
        served = service.Service(self)
        served.terminate()
        served.code()
        ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
        command = [PROGRAM, "serve", "--data", served.data, "--listen", f"{served.host}:{served.port}"]
        served.spawn([*command, "--log-format", "json"], preexec_fn=ignore)
        wait_for(served._url)
        served.process.send_signal(signal.SIGHUP)
        self.assertEqual(served.request("GET", "/readyz").status, 200)
        served.terminate()
        self.assertEqual(served.code(), 0)

    def test_consume_saves_its_checkpoint(self):
        served = service.Service(self)
        served.logstore("logs")
        subprocess.run([PROGRAM, "put", "logs", "-"], input=b'{"a":"1"}\n', env=self.place(served), check=True)
        collector = Collector()
        self.addCleanup(collector.close)
        folder = temporary_folder(self)
        consumer = Process(self, folder / "log", "consume")
        options = ("--to", collector.url, "--group", "g", "--dead-letters", folder)
        consumer.spawn([PROGRAM, "consume", "--logstore", "logs", *options], self.place(served))
        wait_for(lambda: len(collector.events) == 1)
        self.hang_up(consumer)
        self.assertIn("stopped", consumer.said())
        (shard,) = served.json("group", "show", "logs", "g", "--report", "json")["shards"]
        self.assertEqual(shard["groupsBehind"], 0, shard)

    def test_ship_ships_what_it_has_read(self):
        folder = temporary_folder(self)
        ship = Process(self, folder / "log", "ship")
        ship.spawn([PROGRAM, "ship", "-", "--to", folder / "out"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        ship.process.stdin.write(b'{"a":"1"}\n' * 200_000)
        ship.process.stdin.flush()
        self.hang_up(ship)
        self.assertIn("stopping", ship.said())
        objects = [path for path in (folder / "out").rglob("*") if path.is_file()]
        self.assertEqual(len(objects), 1)

    def place(self, served):
        return {
            **os.environ,
            "LOGSHIP_DATA": str(served.data),
            "SLS_ENDPOINT": served.endpoint(),
            "SLS_PROJECT": service.PROJECT,
            "SPLUNK_HEC_TOKEN": TOKEN,
        }
