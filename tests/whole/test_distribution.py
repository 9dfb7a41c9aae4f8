"""What is installed and what is published: all of the package, with the files of the demo's page, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "*.egg-info", "__pycache__", "build", "dist", ".*_cache", ".hypothesis"
)
BUILD = "from setuptools import build_meta; build_meta.build_sdist('dist'); build_meta.build_wheel('dist')"


def packaged() -> set[str]:
    """Every file of the package, relative to the root of the project."""
    paths = (path for path in (ROOT / "resto_wsgi").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(ROOT)) for path in paths}


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a source archive and a wheel, made of a copy of the project."""
    copy = tmp_path_factory.mktemp("distribution") / "project"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    yield copy / "dist"
    shutil.rmtree(copy)


def test_a_wheel_has_the_package_and_nothing_else(archives: Path) -> None:
    """Tests, benchmarks and examples are not imported by anybody who installed it."""
    (wheel,) = archives.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {"resto_wsgi/py.typed", "resto_wsgi/demo/static/index.html"} <= names
    assert names == packaged()


def test_a_source_archive_has_all_that_a_change_takes(archives: Path) -> None:
    """The package, its tests and what they start, the documents, and how it is built."""
    (source,) = archives.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    wanted = {"CHANGES.rst", "CONTRIBUTING.rst", "LICENSE", "Makefile", "README.rst", "constraints.txt", "setup.cfg"}
    wanted |= {".ci/run", ".pre-commit-config.yaml", "pyproject.toml", "ruff.toml", "docs/architecture.rst"}
    wanted |= {"tests/conftest.py", "tests/setup-servers", "tests/chaos/__main__.py", "benchmarks/__main__.py"}
    assert packaged() | wanted <= names
    assert not [name for name in names if name.endswith(".pyc")]


def test_a_command_and_a_filter_are_entry_points(archives: Path) -> None:
    """What `resto` and `use = egg:resto_wsgi` find."""
    (wheel,) = archives.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith("entry_points.txt")]
        lines = archive.read(name).decode().split("\n")
    assert "resto = resto_wsgi.cli:main" in lines
    assert "main = resto_wsgi.integrations.paste:make_filter" in lines
