"""The program's own log on a standard error that is closed, full, or that nobody reads: it loses lines, and nothing else."""

import base64
import contextlib
import http.client
import os
import subprocess
import time
import unittest

from kit import service
from kit.fakes.hec import TOKEN, Collector
from kit.names import ADDRESS
from kit.paths import PROGRAM
from kit.process import Process, free_port, temporary_folder
from kit.waiting import PATIENCE, wait_for

# Rejected requests, whose lines are more than a pipe and the queue of the log hold.
REQUESTS = 9_000
NO_KEY = {"Authorization": "Basic " + base64.b64encode(b"no:key").decode()}


@contextlib.contextmanager
def dead_pipe():
    """A pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


@contextlib.contextmanager
def full_disk():
    with open("/dev/full", "wb") as full:
        yield full


@contextlib.contextmanager
def unread_pipe():
    """A full pipe that nobody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    try:
        yield writer
    finally:
        os.close(reader)
        os.close(writer)


class Running(Process):
    """A process of `logship` whose standard error is a given file."""

    def __init__(self, test, stderr, *arguments, **environment):
        super().__init__(test, os.devnull)
        environment = {**os.environ, **environment}
        self.process = subprocess.Popen([PROGRAM, *arguments], stderr=stderr, env=environment)


class ServeCase(unittest.TestCase):
    def start(self, stderr, *options):
        folder = temporary_folder(self)
        self.data, self.port = folder / "data", free_port()
        port = self.port
        listen = ("--listen", f"{ADDRESS}:{port}", "--longest-wait", "1", "--log", "debug")
        self.served = Running(self, stderr, "serve", "--data", self.data, *listen, *options)
        wait_for(self.is_ready, message="the service does not answer")

    def is_ready(self):
        self.assertTrue(self.served.is_alive(), "the service ended at its start")
        with contextlib.suppress(OSError), self.connection() as connection:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200

    def connection(self):
        return contextlib.closing(http.client.HTTPConnection(ADDRESS, self.port, timeout=PATIENCE))

    def command(self, *arguments, **options):
        place = {"LOGSHIP_DATA": str(self.data), "SLS_ENDPOINT": f"http://{ADDRESS}:{self.port}"}
        done = subprocess.run(
            [PROGRAM, *arguments], capture_output=True, text=True, env={**os.environ, **place}, **options
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def assert_rejects(self, count):
        """Sends requests that are logged. Each is answered."""
        with self.connection() as connection:
            for _ in range(count):
                connection.request("POST", "/ingest/default/none", "{}", NO_KEY)
                reply = connection.getresponse()
                reply.read()
                self.assertEqual(reply.status, 401)

    def assert_ends(self):
        self.served.terminate()
        self.assertEqual(self.served.code(), 0)


class Serve(ServeCase):
    def check(self, stderr):
        """Answers logged requests, fails a task, retries it, and ends well."""
        with stderr() as file:
            self.start(file)
            self.assert_rejects(10)
            lake = self.data / "buckets/lake"
            lake.mkdir(parents=True)
            self.command("logstore", "create", "logs", "--shards", "1")
            self.command("rule", "create", "to-lake", "--logstore", "logs", "--bucket", "lake")
            lake.rmdir()
            self.command("put", "logs", "-", input='{"a":"1"}\n')
            wait_for(lambda: "1 failed" in self.command("task", "list"), message="the task is not failed")
            lake.mkdir()
            self.command("task", "retry", "--all-failed")
            wait_for(lambda: "1 succeeded" in self.command("task", "list"), message="the task is not retried")
            self.assert_ends()

    def test_log_on_full_disk(self):
        self.check(full_disk)

    def test_log_in_dead_pipe(self):
        self.check(dead_pipe)

    def test_log_in_unread_pipe(self):
        self.check(unread_pipe)

    def test_log_beyond_the_queue_never_blocks(self):
        with unread_pipe() as pipe:
            self.start(pipe)
            self.assert_rejects(REQUESTS)
            self.assert_ends()

    def test_streams_closed_before_the_start(self):
        folder = temporary_folder(self)
        self.data, port = folder / "data", free_port()
        self.port = port
        command = f"exec {PROGRAM} serve --data {self.data} --listen {ADDRESS}:{port} <&- >&- 2>&-"
        self.served = Process(self, folder / "log")
        self.served.spawn(["sh", "-c", command])
        wait_for(self.is_ready, message="the service does not answer")
        self.assert_rejects(1)
        self.assert_ends()

    def test_lost_lines_are_reported_when_the_log_works_again(self):
        """A pipe that is read late has all lines that fit, and the number of the others."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        self.start(writer)
        os.close(writer)
        self.assert_rejects(REQUESTS)
        os.set_blocking(reader, False)
        text = b""

        def is_reported():
            nonlocal text
            with contextlib.suppress(BlockingIOError):
                while part := os.read(reader, 1 << 16):
                    text += part
            return b"lines of the log were lost" in text

        wait_for(is_reported, message="lost lines are not reported")
        self.assert_ends()


class Consume(unittest.TestCase):
    def test_goes_on_when_its_log_has_lost_its_reader(self):
        served = service.Service(self)
        place = {
            "LOGSHIP_DATA": str(served.data),
            "SLS_ENDPOINT": served.endpoint(),
            "SLS_PROJECT": service.PROJECT,
            "SPLUNK_HEC_TOKEN": TOKEN,
        }
        served.logstore("logs")
        put = [PROGRAM, "put", "logs", "-"]
        subprocess.run(put, input=b'{"a":"1"}\n{"a":"2"}\n', env={**os.environ, **place}, check=True)
        collector = Collector()
        self.addCleanup(collector.close)
        collector.enabled = False
        options = ("--to", collector.url, "--dead-letters", temporary_folder(self))
        with dead_pipe() as pipe:
            consumer = Running(self, pipe, "consume", "--logstore", "logs", *options, **place)
            wait_for(lambda: collector.requests, message="nothing is sent")
            time.sleep(0.5)
            collector.enabled = True
            wait_for(lambda: len(collector.events) == 2, message="it does not send again")
            consumer.terminate()
            self.assertEqual(consumer.code(), 0)
