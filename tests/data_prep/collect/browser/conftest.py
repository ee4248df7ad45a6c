"""One Chromium and one server of each page for the tests of this folder; skipped, with the reason, without Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from data_prep.collect.simulate.browser import CHROMIUM, BrowserMissingError, chromium
from tests.data_prep.collect.browser.bench import Server, make_project, serving


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """Chromium; a context of its own is made by each test.

    It ends with this folder: Playwright keeps an event loop running, under which the tests of others cannot start one.
    """
    try:
        with chromium(executable=CHROMIUM) as started:
            yield started
    except BrowserMissingError as e:
        pytest.skip(str(e))


@pytest.fixture
def context(browser) -> Iterator[Any]:
    made = browser.new_context(viewport={"width": 1280, "height": 900})
    made.set_default_timeout(15_000)
    yield made
    made.close()


@pytest.fixture
def page(context) -> Any:
    """A tab that must not log an error of its own."""
    opened = context.new_page()
    opened.faults = []
    opened.on("pageerror", lambda error: opened.faults.append(str(error)))
    yield opened
    assert opened.faults == []


@pytest.fixture(scope="session")
def imagenet(tmp_path_factory) -> Iterator[Server]:
    """Two classes, pages of 12, enough of them for every test."""
    project = make_project(tmp_path_factory.mktemp("imagenet"), "imagenet", pictures=24, overlap=100)
    with serving(project) as server:
        yield server


@pytest.fixture(scope="session")
def coco(tmp_path_factory) -> Iterator[Server]:
    """Pages of one picture and the 11 sets."""
    with serving(make_project(tmp_path_factory.mktemp("coco"), "coco", pictures=6, overlap=100)) as server:
        yield server
