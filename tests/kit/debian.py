"""Programs of Debian packages, unpacked to a folder: they run from there, beside what is installed, as nobody's service."""

import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from kit.paths import DEBIAN

FOLDER = DEBIAN
AVAILABLE = bool(shutil.which("apt-get") and shutil.which("dpkg"))
UNAVAILABLE = "there are no Debian packages to unpack"
DEPENDENCY = re.compile(r"^\s*\|?(?:Pre)?Depends: ([^<\s]+)$", re.MULTILINE)


@functools.cache
def unpacked(folder, packages, program):
    """The folder with the packages, and those that they need, in it. It is made where it has no `program`."""
    if not (folder / program).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            _unpack(Path(made), folder, packages, program)
    return folder


def _unpack(made, folder, packages, program):
    files, root = made / "packages", made / "root"
    files.mkdir()
    _run("apt-get", "--quiet", "download", *_missing(packages), folder=files)
    for package in files.iterdir():
        _run("dpkg", "-x", package, root)
    try:
        root.rename(folder)
    except OSError:
        # Somebody else was first.
        assert (folder / program).exists(), folder


def _missing(packages):
    """The packages and what they depend on, but for what is installed."""
    found, rest = [], list(packages)
    while rest:
        package = rest.pop()
        if package not in found and (package in packages or not _is_installed(package)):
            found.append(package)
            rest += DEPENDENCY.findall(_run("apt-cache", "depends", package))
    return found


def _is_installed(package):
    asked = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(asked, capture_output=True, text=True).stdout == "installed"


def _run(*command, folder=None):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout
