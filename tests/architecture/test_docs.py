"""Reference pages are tables of the code's own data: a stale one is a lie."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["states.md", "outcomes.md", "settings.md", "keys.md", "events.md", "metrics.md"])
def test_a_reference_page_is_what_make_docs_would_write(name: str) -> None:
    pages = _generator().PAGES
    assert set(pages) == {path.name for path in (ROOT / "docs").glob("*.md")}
    assert pages[name]() == (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_every_page_that_readme_links_to_is_there() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = {part.split(")")[0] for part in readme.split("](")[1:]}
    missing = {link for link in linked if not link.startswith("http") and not (ROOT / link.partition("#")[0]).exists()}
    assert missing == set()
