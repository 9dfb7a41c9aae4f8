"""What was measured, and on what: without it a figure says nothing."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version

__all__ = ["describe"]

PACKAGES = (
    "urllib3",
    "multipart",
    "WebOb",
    "django-resto",
    "Django",
    "Flask",
    "Werkzeug",
    "python-multipart",
    "gunicorn",
)

PROBES = 200


def describe(folder: str) -> dict[str, str]:
    """Return the configuration, as text by what it is; ``folder`` is where the files are."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{os.cpu_count()} cores ({_processor()}), {_memory() / 1024**3:.0f} GiB of memory",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": _file_system(folder),
        "making a file": f"{_making(folder):.0f} us",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "nginx": _said_by(["nginx", "-v"]).rpartition("/")[2] or "unknown",
        "packages": ", ".join(f"{package} {_version(package)}" for package in PACKAGES),
        "resto_wsgi": _said_by(["git", "describe", "--always", "--dirty"]) or "unknown",
        "load at the start": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _file_system(folder: str) -> str:
    """Return the type of the file system that holds ``folder``: of the longest mount point above it."""
    folder = os.path.realpath(folder)
    found = ("", "unknown")
    with contextlib.suppress(OSError), open("/proc/mounts", encoding="utf-8") as file:
        for line in file:
            point, kind = line.split()[1:3]
            if os.path.commonpath([point, folder]) == point and len(point) >= len(found[0]):
                found = (point, kind)
    return found[1]


def _making(folder: str) -> float:
    """Return the microseconds that an empty file costs; above 100 something has deleted many nearby (see ``Place``)."""
    probes = os.path.join(folder, "probes")
    os.mkdir(probes)
    began = time.perf_counter()
    for number in range(PROBES):
        os.close(os.open(os.path.join(probes, str(number)), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    return 1e6 * (time.perf_counter() - began) / PROBES


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _said_by(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, cwd=os.path.dirname(__file__), check=False
        )
    except OSError:
        return ""
    return (done.stdout or done.stderr).strip() if done.returncode == 0 else ""
