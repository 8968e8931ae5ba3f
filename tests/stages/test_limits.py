"""Limits of strangers' components: memory and time to compile them, and the CPU time of a call."""

import os
import resource
import signal
import subprocess
import time
import unittest
from pathlib import Path

from kit import core_module, marking, service
from kit.paths import PROGRAM
from kit.process import temporary_folder
from kit.waiting import wait_for

MIB = 1 << 20


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = temporary_folder(self)

    def start(self, module, *options, before=()):
        """Starts to convert a module to a component, which compiles it and calls `describe`."""
        file = self.folder / "module.wasm"
        file.write_bytes(module)
        command = [*before, PROGRAM, "stage", "componentize", file, "--kind", "renderer"]
        command += ["--output", self.folder / "component.wasm", "--cache", self.folder / "cache", *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def problem(self, module, *options, before=()):
        """The error of a module that is no stage."""
        process = self.start(module, *options, before=before)
        _, error = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 1, error)
        return error


class Compilation(Case):
    def test_rejects_many_functions_and_branches(self):
        module = core_module.renderer(functions=[core_module.empty()] * 900_000)
        self.assertIn("it has more than 100000 functions", self.problem(module))
        module = core_module.renderer(functions=[core_module.wide(40_000, 3000)])
        self.assertIn("40000 local variables and 6000 branches", self.problem(module))

    def test_limits_memory(self):
        # Below the limits of functions and branches. Without a limit, it takes more than a gigabyte.
        module = core_module.renderer(functions=[core_module.wide(2000, 9000)])
        self.assertLess(len(module), 200_000)
        begin = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        error = self.problem(module, "--compile-memory", "128")
        self.assertIn("compiling it takes more than 128 MiB of memory", error)
        self.assertIn("--compile-memory", error)
        # The limit counts address space, of which the child has 512 MiB for itself.
        self.assertLessEqual(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, max(begin, 640 << 10))

    def test_limits_time(self):
        module = core_module.renderer(functions=[core_module.empty()] * 99_000)
        error = self.problem(module, "--compile-time", "1", "--compile-memory", "4096")
        self.assertIn("compiling it takes more than 1 s", error)

    def test_service_survives_hostile_component(self):
        running = service.Service(self)
        component = self.folder / "hostile.wasm"
        module = core_module.renderer(functions=[core_module.wide(2000, 9000)])
        component.write_bytes(core_module.appended(marking.build("0001"), module))
        before = running.memory("VmHWM")
        self.assertIn("compiling it takes more than", running.refused("stage", "add", component, "--name", "hostile"))
        self.assertLess(running.memory("VmHWM") - before, 64 * MIB, "the child takes the memory")
        running.command("stage", "add", self.ordinary(), "--name", "marker")

    def test_service_reads_no_interface_of_a_stranger(self):
        running = service.Service(self)
        component = self.folder / "wide.wasm"
        # 900,000 function types: 3.6 MB, and 140 MiB to read.
        types = core_module.unsigned(900_000) + b"\x40\x00\x01\x00" * 900_000
        component.write_bytes(b"\0asm\x0d\0\x01\0" + b"\x07" + core_module.unsigned(len(types)) + types)
        before = running.memory("VmHWM")
        self.assertIn("not a stage", running.refused("stage", "add", component, "--name", "wide"))
        self.assertLess(running.memory("VmHWM") - before, 64 * MIB, "the child takes the memory")

    def ordinary(self):
        file = self.folder / "ordinary.wasm"
        file.write_bytes(marking.build("0001"))
        return file


class Deadlines(Case):
    """`describe` traps after the loop. A call that was stopped has another error."""

    # One to four seconds of CPU time.
    LOOP = core_module.renderer(describe=core_module.countdown(4_000_000_000) + b"\x00")
    DEADLINE = 6
    MODES = ("epoch", "signal")

    def test_stops_endless_call_and_start_function(self):
        for module in (
            core_module.renderer(describe=core_module.endless() + b"\x00"),
            core_module.renderer(functions=[(core_module.NO_LOCALS, core_module.endless())], start=0),
        ):
            for mode in ("epoch", "signal"):
                error = self.problem(module, "--stage-deadline", "0.3", "--deadline-mode", mode)
                self.assertIn("did not answer within 0.3 s of CPU time", error)

    def test_stopped_process_fails_no_stage(self):
        processes = [self.start_loop(mode) for mode in self.MODES]
        for process in processes:
            # The child compiles; this process computes only in the call.
            wait_for(lambda: cpu_seconds(process) > 0.4, message="the call did not begin", every=0.001)
            process.send_signal(signal.SIGSTOP)
        time.sleep(self.DEADLINE + 1)
        for process in processes:
            process.send_signal(signal.SIGCONT)
        self.check_completed(processes)

    def test_busy_neighbours_fail_no_stage(self):
        cpu = str(min(os.sched_getaffinity(0)))
        on_cpu = ["taskset", "-c", cpu]
        hogs = [subprocess.Popen([*on_cpu, "sh", "-c", "while :; do :; done"]) for _ in range(5)]
        try:
            self.check_completed([self.start_loop(mode, before=on_cpu) for mode in self.MODES])
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()

    def start_loop(self, mode, before=()):
        options = ("--stage-deadline", str(self.DEADLINE), "--deadline-mode", mode)
        return self.start(self.LOOP, *options, before=before)

    def check_completed(self, processes):
        for process in processes:
            _, error = process.communicate(timeout=120)
            self.assertIn("trapped", error)


class Idle(unittest.TestCase):
    def test_idle_service_hardly_wakes_up(self):
        running = service.Service(self)
        # Loads and calls a stage, so that deadlines are in use.
        running.command("stage", "show", "encode-json")
        time.sleep(2)
        before = switches(running.process.pid)
        time.sleep(3)
        wakeups = {name: count - before.get(name, 0) for name, count in switches(running.process.pid).items()}
        # A watcher of deadlines alone would wake up 300 times.
        self.assertLess(sum(wakeups.values()), 200, wakeups)


def cpu_seconds(process):
    """CPU time of a process without its children."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def switches(pid):
    """Voluntary context switches of each thread."""
    counts = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines())
        counts[f"{lines['Name']} {task.name}"] = int(lines["voluntary_ctxt_switches"])
    return counts


if __name__ == "__main__":
    unittest.main()
