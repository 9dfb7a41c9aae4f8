"""The way into the command, where click and rich may be missing."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_a_missing_extra_is_one_line() -> None:
    """Without click the command names what to install, and exits with 2: it found nothing out."""
    code = "import sys; sys.modules['click'] = None; from resto_wsgi.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "resto needs the extra [cli]: pip install 'resto_wsgi[cli]', or '.[cli]' in a clone\n"


def test_another_missing_module_is_a_defect() -> None:
    """A module that is missing for another reason keeps its traceback."""
    code = "import sys; sys.modules['urllib3'] = None; from resto_wsgi.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code, "demo"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "urllib3" in result.stderr
    assert "Traceback" in result.stderr


@pytest.mark.parametrize("defect", ["1 / 0", "__import__('nothing')"])
def test_a_defect_is_not_what_a_command_has_found_out(defect: str) -> None:
    """Python ends with 1, which would say that something is owed: it is 2, with the traceback."""
    code = f"from resto_wsgi.cli import commands, main; commands.resto = lambda: {defect}; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Traceback")


@pytest.mark.parametrize("command", [["-c", "from resto_wsgi.cli import main; main()"], ["-m", "resto_wsgi"]])
def test_the_command_and_the_module_are_the_same(command: list[str]) -> None:
    """`python -m resto_wsgi` is for where no command was installed."""
    result = subprocess.run([sys.executable, *command, "--help"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert "media-server" in result.stdout and "drain" in result.stdout


def test_importing_the_package_imports_no_extra() -> None:
    """Nor does looking for the command: only running it does."""
    code = (
        "import sys, resto_wsgi, resto_wsgi.cli; "
        "sys.exit(sorted({'click', 'rich', 'cheroot'} & sys.modules.keys()) != [])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
