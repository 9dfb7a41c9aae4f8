"""Each limit is a positive number, and says so if it is not."""

from __future__ import annotations

from typing import Any

import pytest

from resto_wsgi.config import Limits, Settings
from resto_wsgi.errors import ConfigError


@pytest.mark.parametrize("name", list(vars(Limits())))
@pytest.mark.parametrize("value", [0, -1, float("nan"), "5", None, True])
def test_a_limit_that_is_no_positive_number_is_a_config_error(name: str, value: Any) -> None:
    """Limits are checked where they are made, and the error names the one that is wrong."""
    with pytest.raises(ConfigError, match=name):
        Limits(**{name: value})


@pytest.mark.parametrize("text", ["many", "", "-1", "0", "1e", "nan"])
def test_a_text_that_is_no_number_is_told_by_its_name(text: str) -> None:
    """As the source spells it."""
    with pytest.raises(ConfigError, match="RESTO_MAX_FILES"):
        Settings.from_environ({"MEDIA_ROOT": "/srv/media", "RESTO_MAX_FILES": text})
