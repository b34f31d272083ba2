"""Links of the pages lead to files that exist, and links to lines to the definitions they speak of."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("papers/*.md"), *ROOT.glob("papers/*/*.md"), *ROOT.glob("results/*.md")]
LINK = re.compile(r"\]\(([^)\s#:]+)(?:#L(\d+))?\)")
DEFINITION = re.compile(r"\s*(def |class |@|[A-Z_]+\b.*=)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    for name, line in LINK.findall(page.read_text()):
        file = page.parent / name
        assert file.exists(), f"{page.name}: {name} is not there"
        if line:
            found = file.read_text().splitlines()[int(line) - 1]
            assert DEFINITION.match(found), f"{page.name}: line {line} of {name} defines nothing: {found!r}"


def test_the_pages_are_found() -> None:
    assert ROOT / "papers/README.md" in PAGES and sum("#L" in page.read_text() for page in PAGES) > 0
