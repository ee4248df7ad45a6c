"""No page has a finding of the accessibility check, and the check finds what is wrong."""

from __future__ import annotations

import pytest

from tests.data_prep.collect.browser.accessibility import annotator_pages, check, owner_pages, servers


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    with servers(tmp_path_factory.mktemp("accessibility")) as started:
        yield started


def test_the_annotator_s_pages_have_no_findings(browser, both):
    imagenet, coco = both
    findings, names = [], []

    def see(page, name) -> None:
        names.append(name)
        findings.extend(check(page, name))

    annotator_pages(browser, imagenet, coco, see)
    assert findings == []
    assert len(names) == 14


def test_the_owner_s_pages_have_no_findings(browser, both):
    findings, names = [], []

    def see(page, name) -> None:
        names.append(name)
        findings.extend(check(page, name))

    owner_pages(browser, both[0], see)
    assert findings == []
    assert len(names) == 14


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("<main><h1>A</h1><button></button></main>", "name"),
        ("<main><h1>A</h1><p style='color:#999'>pale</p></main>", "contrast"),
        (
            "<main><h1>A</h1><button style='width:10px;height:10px;padding:0' aria-label='b'></button></main>",
            "target size",
        ),
        ("<main><h1>A</h1><p id=a>x</p><p id=a>y</p></main>", "duplicate id"),
        ("<main><h1>A</h1><h3>B</h3></main>", "headings"),
        ("<main><h1>A</h1><img src=''></main>", "alternative text"),
        ("<main><h1>A</h1><button style='outline:none'>aaaa</button></main>", "tab order"),
        ("<main><h1>A</h1><button tabindex=3>aaaa</button></main>", "tab order"),
        ("<main><h1>A</h1><div style='transition:all 2s'>a</div></main>", "motion"),
        ("<main><h1>A</h1><p aria-describedby=nothing>a</p></main>", "reference"),
        ("<h1>A</h1>", "landmark"),
    ],
)
def test_the_check_finds(page, body, rule):
    page.set_content(f"<html lang=en><title>t</title><body>{body}</body></html>")
    assert rule in {finding.rule for finding in check(page, "made")}


def test_a_page_without_a_fault_has_no_findings(page):
    page.set_content(
        "<html lang=en><title>t</title><style>button{padding:8px}:focus{outline:3px solid}</style>"
        "<main><h1>A</h1><button>Press here</button></main></html>"
    )
    assert check(page, "made") == []


def test_states_are_told_by_more_than_colour(page, both):
    from tests.data_prep.collect.browser.bench import accept

    accept(page, both[0].link(), ready="[data-screen=practice]")
    page.click("[data-place='0']")
    assert page.is_visible(".cell.selected .badge svg")
    assert page.get_attribute("[data-place='0']", "aria-pressed") == "true"
    assert page.get_attribute("#live", "aria-live") == "polite"
    page.wait_for_function("() => document.getElementById('live').textContent.includes('selected')")
