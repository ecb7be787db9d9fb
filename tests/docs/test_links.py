"""What the Markdown files refer to is there: links, headings, files of the repository; the index lists every page,
and the page on the report every section."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    page
    for form in ("*.md", "docs/**/*.md", "benchmarks/*.md", "examples/**/*.md")
    for page in ROOT.glob(form)
)
FOLDERS = "safemt_client|providers|judges|moderator|results|tests|docs|benchmarks|examples|tools"


def prose(page: Path) -> str:
    """The page without its code blocks, indented or fenced, and without code in backquotes."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    text = re.sub(r"(?:^|(?<=\n\n))(?: {4}.*\n|\n(?= {4}))+", "", text)
    return re.sub(r"`[^`\n]*`", "", text)


def links(page: Path) -> list[str]:
    return [
        target
        for target in re.findall(r"\]\(<?([^)\s>]+)", prose(page))
        if not re.match(r"[a-z][a-z0-9+.-]*:", target)
    ]


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    found: set[str] = set()
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", text, flags=re.M):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        repeated = sum(1 for one in found if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", one))
        found.add(f"{slug}-{repeated}" if slug in found else slug)
    return found


def broken(page: Path) -> list[str]:
    wrong = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / unquote(path)).resolve() if path else page
        if not file.exists() or (anchor and (file.suffix != ".md" or anchor not in anchors(file))):
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_the_repository_that_are_named_exist(page: Path) -> None:
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]*)(?:::[^`]*)?`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_index_lists_every_page() -> None:
    listed = {target.partition("#")[0] for target in links(DOCS / "README.md")}
    pages = (str(page.relative_to(DOCS)) for page in DOCS.glob("**/*.md"))
    assert sorted(page for page in pages if page not in {*listed, "README.md"}) == []


def test_the_sections_of_the_report_are_listed() -> None:
    sources = (ROOT / "results" / "report" / "sections").glob("*.py")
    titles = [
        title
        for source in sources
        for title in re.findall(r'\bSection\(\s*"\w+",\s*"([^"]+)"', source.read_text(encoding="utf-8"))
    ]
    assert len(titles) > 5
    page = (DOCS / "report.md").read_text(encoding="utf-8")
    assert [title for title in titles if f"| {title} |" not in page] == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# Two words\n\n## A `name`, and more\n")
    page.write_text(
        "# Here\n[a](other.md#two-words) [b](other.md#a-name-and-more) [c](#here) [d](https://example.org/x)\n"
        "[e](gone.md) [f](other.md#gone) [g](#gone) `[h](code.md)`\n\n    [i](block.md)\n"
    )
    assert broken(page) == ["gone.md", "other.md#gone", "#gone"]
