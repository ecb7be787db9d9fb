"""The documentation as a site: every link leads somewhere, every page is in the contents, nothing is fetched."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow
pytest.importorskip("sphinx", reason="the extra `docs`")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    words = [
        "--quiet",
        "--fail-on-warning",
        "--keep-going",
        "-d",
        str(out / "read"),
        "-c",
        "docs",
        ".",
        str(out / "site"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out / "site"


def test_the_contents_list_every_page_of_the_documentation(site: Path) -> None:
    index = (site / "docs" / "README.html").read_text(encoding="utf-8")
    contents = index.partition('class="sidebar-tree"')[2].partition("</aside>")[0]
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").glob("**/*.md")]
    missing = [page for page in pages if f'href="{page.with_suffix(".html")}"' not in contents]
    assert [str(page) for page in missing] == ["README.md"]


def test_the_public_names_of_the_api_have_their_docstrings(site: Path) -> None:
    import safemt_client

    page = (site / "docs" / "api.html").read_text(encoding="utf-8")
    assert [name for name in safemt_client.__all__ if f'id="safemt_client.{name}"' not in page] == []


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.glob("**/*.html"):
        text = page.read_text(encoding="utf-8")
        found = re.findall(
            r"<(?:script|img|iframe)[^>]* src=\"(https?:)?//|<link[^>]* rel=\"stylesheet\"[^>]* href=\"(https?:)?//",
            text,
        )
        assert found == [], page.name


def test_the_address_of_the_site_leads_to_the_index(site: Path) -> None:
    assert "url=docs/README.html" in (site / "index.html").read_text(encoding="utf-8")
