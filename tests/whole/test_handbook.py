"""What the next hands are told is there: the commands, the files and the rooms of CONTRIBUTING and of the documents."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

import docutils.core
import pytest
from docutils import nodes
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "resto_wsgi"
DOCUMENTS = sorted(str(each.relative_to(ROOT)) for each in ROOT.glob("docs/*.rst"))
TEXTS = ["CHANGES.rst", "CONTRIBUTING.rst", "README.rst", *DOCUMENTS]
SCREEN = 60  # lines


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def literals(name: str) -> list[str]:
    """What stands between double backquotes, and each literal block; it must be good markup, or nobody can read it."""
    halting = {"report_level": 2, "halt_level": 2}
    document = docutils.core.publish_doctree(read(name), settings_overrides=halting)
    found = [node.astext() for kind in (nodes.literal, nodes.literal_block) for node in document.findall(kind)]
    return [re.sub(r"\s+", " ", text) if "\n" not in text.strip() else text for text in found]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))


def requirements() -> list[Requirement]:
    """All that the package and its extras want, but for the extras themselves."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lists = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    lines = [line.partition("#")[0].strip() for text in lists for line in text.split("\n")]
    return [each for each in map(Requirement, filter(None, lines)) if each.name != "resto_wsgi"]


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_good_markup_and_each_make_in_it_is_a_target(name: str) -> None:
    """Whoever types it gets what was promised."""
    told = {each for text in literals(name) for each in re.findall(r"\bmake ([a-z]+)", text)}
    assert told - targets() == set()


def test_the_makefile_says_what_it_has() -> None:
    """Each target that is for people is in its first lines."""
    head = read("Makefile").partition("\n\n")[0]
    phony = set(re.search(r"^\.PHONY: (.*)$", read("Makefile"), re.MULTILINE)[1].split())  # type: ignore[index]
    assert phony == set(re.findall(r"^# make ([a-z]+)", head, re.MULTILINE)) == targets() & phony


@pytest.mark.parametrize("name", ["CONTRIBUTING.rst", "docs/architecture.rst"])
def test_each_file_that_is_named_is_there(name: str) -> None:
    """A path begins at the root of the project or of the package."""
    words = {word.rstrip("/.,:;").partition("::")[0] for text in literals(name) for word in re.split(r"[\s=']", text)}
    paths = {word for word in words if re.fullmatch(r"[\w.-]+(/[\w.-]+)+|\w+\.(rst|cfg|txt)", word)}
    assert len(paths) > 5
    absent = {each for each in paths if not (ROOT / each).exists() and not (PACKAGE / each).exists()}
    assert {each for each in absent if not each.startswith((".resto/", "dist/"))} == set()


def test_architecture_names_every_room_and_only_modules_that_are_there() -> None:
    """A room that is new has its paragraph; a module that moved is named where it is."""
    rooms = {each.parent.name for each in PACKAGE.rglob("__init__.py")} - {PACKAGE.name}
    text = read("docs/architecture.rst")
    assert {each for each in rooms if f"{each}/" not in text} == set()
    modules = {each.stem for each in PACKAGE.rglob("*.py")}
    assert {each for each in literals("docs/architecture.rst") if re.fullmatch("[a-z_]+", each)} - modules == {
        "resto_wsgi"
    }


TESTED_IN = {  # the tests of what has none of its own; take a line out when it has
    "config/sources.py": "config/test_settings.py",
    "outbox/rows.py": "outbox/test_outbox.py",
    "outbox/tables.py": "outbox/test_outbox.py",
    "signatures.py": "trust/test_signatures.py",
    "transports/http/errand.py": "transports/http/test_transport.py",
    "transports/http/file_digests.py": "transports/http/test_security.py",
    "transports/http/reply.py": "transports/http/test_reads.py",
}


def test_each_module_has_tests_of_its_name() -> None:
    """Whoever changes one finds what holds it."""
    modules = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")]
    own = {str(each): ROOT / "tests" / each.parent / f"test_{each.name}" for each in modules}
    assert {name for name, path in own.items() if not path.exists()} - TESTED_IN.keys() == set()
    assert [each for each in TESTED_IN.values() if not (ROOT / "tests" / each).exists()] == []


def test_contributing_is_one_screen() -> None:
    """What does not fit has a page of its own."""
    assert len(read("CONTRIBUTING.rst").splitlines()) <= SCREEN


def test_contributing_says_how_one_test_is_run() -> None:
    """With a file that is there, in the words that make takes."""
    examples = re.findall(r"make test ARGS=(\S+)", read("CONTRIBUTING.rst"))
    assert [each for each in examples if each.startswith("tests/")]


def test_ci_runs_what_a_person_runs() -> None:
    """And git too, at a commit and before a push: nothing is said twice, nothing is fetched."""
    assert read(".ci/run").splitlines()[-1] == "exec make test"
    hooks = read(".pre-commit-config.yaml")
    assert re.findall(r"entry: (.*)", hooks) == ["make lint", "make test"]
    assert re.findall(r"repo: (.*)", hooks) == ["local"] and "http" not in hooks


# Versions


def pins() -> dict[str, Requirement]:
    lines = [line for line in read("constraints.txt").splitlines() if not line.startswith("#")]
    return {canonicalize_name(each.name): each for each in map(Requirement, lines)}


def test_what_was_tested_with_is_pinned_once() -> None:
    """One version each, from whichever registry pip asks."""
    assert all(re.fullmatch(r"==[\w.]+", str(each.specifier)) and each.url is None for each in pins().values())
    lines = [line for line in read("constraints.txt").splitlines() if not line.startswith("#")]
    assert len(lines) == len(pins()) and not re.search(r"//|^-", read("constraints.txt"), re.MULTILINE)


@pytest.mark.parametrize("wanted", requirements(), ids=str)
def test_what_is_wanted_is_pinned_to_a_version_that_is_allowed(wanted: Requirement) -> None:
    """The bounds in setup.cfg are for users, and what was tested is within them."""
    (pin,) = pins()[canonicalize_name(wanted.name)].specifier
    assert pin.version in wanted.specifier
    assert not wanted.specifier or not any(each.operator == "==" for each in wanted.specifier), "pins are in one place"


def test_a_version_is_pinned_only_for_the_pythons_that_it_runs_on() -> None:
    """The oldest Python that is supported installs the others from the ranges alone."""
    markers = {str(each.marker) for each in pins().values() if each.marker}
    assert all(re.fullmatch(r'python_version >= "3\.1\d"', each) and Marker(each) for each in markers)


def test_every_make_installs_what_is_pinned() -> None:
    """Also the demo, and the benchmark, whose figures are compared with those of another day."""
    text = read("Makefile")
    assert text.count("pip install") == 0 and text.count("$(PIP) install") == 1 and text.count("@$(INSTALL)") == 3
    assert "--constraint constraints.txt" in text and text.count("$(INSTALLED_FROM)") == 3
