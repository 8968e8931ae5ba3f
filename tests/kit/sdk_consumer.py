"""A consumer of the SDK in its own process. It records the logs that it processes.

    python -m kit.sdk_consumer SETTINGS

SETTINGS is a JSON object: endpoint, id, secret, project, logstore, group, name, output and `save`, the seconds
between two checkpoints of a shard. Each pull appends a line to the output before its checkpoint is saved:
the shard, the position of the pull's first log group, and the ids in each group. SIGTERM calls shutdown().
"""

import json
import os
import signal
import sys
import threading
import time

from aliyun.log.consumer import ConsumerProcessorBase, ConsumerWorker, CursorPosition, LogHubConfig

from kit import service

# The server drops a consumer after twice this time, which is enough on a busy machine.
HEARTBEAT_SECONDS = 2
# Processing is slow, so that a test interrupts it.
PROCESS_SECONDS = 0.1
# Each pull is lost or kept as a whole, so pulls are small.
GROUPS_OF_A_PULL = 5


class Recorder(ConsumerProcessorBase):
    def __init__(self, output, save):
        super().__init__()
        self.output = output
        self.checkpoint_timeout = save

    def process(self, log_groups, check_point_tracker):
        groups = log_groups.LogGroups
        first = service.position(check_point_tracker.get_cursor()) - len(groups)
        ids = [[int(log.Contents[0].Value) for log in group.Logs] for group in groups]
        line = json.dumps({"shard": self.shard_id, "first": first, "ids": ids}) + "\n"
        # One write per line: each shard has its own thread.
        os.write(self.output, line.encode())
        time.sleep(PROCESS_SECONDS)
        self.save_checkpoint(check_point_tracker)


def main():
    settings = json.loads(sys.argv[1])
    output = os.open(settings["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    names = ("endpoint", "id", "secret", "project", "logstore", "group", "name")
    config = LogHubConfig(
        *(settings[name] for name in names),
        cursor_position=CursorPosition.BEGIN_CURSOR,
        heartbeat_interval=HEARTBEAT_SECONDS,
        data_fetch_interval=0.1,
        max_fetch_log_group_size=GROUPS_OF_A_PULL,
        worker_pool_size=8,
    )
    end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: end.set())
    worker = ConsumerWorker(Recorder, config, args=(output, settings["save"]))
    worker.start()
    end.wait()
    worker.shutdown()
    worker.join()


if __name__ == "__main__":
    main()
