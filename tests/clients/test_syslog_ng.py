"""syslog-ng, a log shipper that knows nothing of us, sends by its http() destination."""

import shutil
import subprocess
import unittest
from datetime import datetime, timezone

from kit import service
from kit.service import Log
from kit.waiting import wait_for

PROGRAM = shutil.which("syslog-ng", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
COUNT = 1000
# Lines and arrays, as the two forms that there are.
FORMS = {"lines": 'delimiter("\\n")', "array": 'body-prefix("[") delimiter(",") body-suffix("]")'}

CONFIGURATION = """
@version: current
options {{ keep-hostname(yes); }};
source input {{ file("{input}" flags(syslog-protocol) follow-freq(0.1)); }};
destination output {{
    http(
        url("{endpoint}/ingest/{project}/logs")
        method("POST") user("{id}") password("{secret}") headers("Content-Type: application/json")
        body('$(format-json __time__=$S_UNIXTIME.$S_USEC __topic__=$PROGRAM __source__=$HOST message=$MESSAGE)')
        batch-lines(100) batch-timeout(500) {form}
    );
}};
log {{ source(input); destination(output); }};
"""


@unittest.skipUnless(PROGRAM, "syslog-ng is not installed (Debian: syslog-ng-core, syslog-ng-mod-http)")
class SyslogNg(unittest.TestCase):
    def test_each_message_arrives_once(self):
        for name, form in FORMS.items():
            with self.subTest(form=name):
                self.ship(form)

    def ship(self, form):
        served = service.Service(self)
        logstore = served.logstore()
        lines, expected = zip(*map(message, range(COUNT)))
        (served.folder / "input").write_text("".join(lines))
        settings = {"endpoint": served.endpoint(), "id": served.admin.id, "secret": served.admin.secret}
        settings |= {"input": served.folder / "input", "project": service.PROJECT, "form": form}
        self.start(served.folder, CONFIGURATION.format(**settings))
        wait_for(lambda: len(logstore.logs()) >= COUNT, message="not all messages arrived", every=0.2)
        # Each host has log groups of its own.
        self.assertEqual(sorted(logstore.logs(), key=lambda log: log.time), list(expected))

    def start(self, folder, configuration):
        (folder / "syslog-ng.conf").write_text(configuration)
        paths = {"cfgfile": "syslog-ng.conf", "persist-file": "persist", "control": "control", "pidfile": "pid"}
        options = [f"--{option}={folder / name}" for option, name in paths.items()]
        with open(folder / "syslog-ng.log", "w") as log:
            process = subprocess.Popen([PROGRAM, "--foreground", "--no-caps", "--stderr", *options], stderr=log)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)


def message(number):
    """A line of RFC 5424, and the log that it becomes."""
    time, micros = 1_700_000_000 + number, number * 997
    text = f'request {number}: "quoted" \\ and 键'
    stamp = datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    line = f"<14>1 {stamp}.{micros:06}Z web-{number % 3} api 7 - - {text}\n"
    return line, Log(time, micros * 1000, "api", f"web-{number % 3}", fields=(("message", text),))
