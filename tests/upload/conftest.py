"""What the tests of forms share: a media root to stage in, and parsers that are ready and say nothing."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import django.conf
import pytest
from django.conf import UserSettingsHolder, global_settings

from resto_wsgi.master.media_root import MediaRoot


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MediaRoot]:
    """One media root for all tests of a module."""
    root = MediaRoot(str(tmp_path_factory.mktemp("media")), fsync=False)
    yield root
    root.close()


@pytest.fixture
def parsers() -> Iterator[None]:
    """Give Django's parser its default settings, and keep what parsers log and warn of to themselves."""
    before = django.conf.settings._wrapped
    django.conf.settings._wrapped = UserSettingsHolder(global_settings)
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)
    django.conf.settings._wrapped = before
