"""The report as a file: the demo's known figures, hostile texts, many targets, three forms."""

import copy
import csv
import itertools
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from safemt_client.__main__ import main
from safemt_client.results.report import write as page
from safemt_client.results.report.build import document
from safemt_client.results.report.document import Figure, Plot, Table, show, unique
from safemt_client.results.report.latex import escaped as latex_escaped
from safemt_client.results.report.markdown import escaped as markdown_escaped
from safemt_client.results.report.sections.reproduce import toml_of
from safemt_client.results.report.svg import inline
from safemt_client.results.scores.collect import as_dict
from safemt_client.results.store.reader import open_reader

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg onload=alert(3)>\x1b[31m\x1b]8;;http://evil.example"
    "\x07\u202e\u200f\x00\ufffe\u2028 [a](javascript:alert(4)) `|` {{7*7}} ${x} $x$ \\input{/etc/passwd} % & # _ ^ ~ "
    "https://evil.example/x www.evil.example @someone -->"
)
VOID = {"meta", "img", "br", "hr", "input", "link"}


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo with and without a moderator, two judges of which the exact one decides, people's labels."""
    folder = tmp_path_factory.mktemp("page")
    path = folder / "d.duckdb"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["safemt"])
        words = ["--provider", "demo", "--judge", "demo-judge", "--db", str(path), "--quiet"]
        assert main([*words, "--moderator", "none", "--moderator", "demo-guard+block"]) == 0
        sample, filled = folder / "s.csv", folder / "f.csv"
        label = ["label", "--db", str(path), "--annotator", "a"]
        assert main([*label, "--n", "60", "--export", str(sample)]) == 0
        with sample.open(newline="") as file:
            rows = list(csv.DictReader(file))
        with filled.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            for row in rows:
                writer.writerow(row | {"label": "unsafe" if row["reply"].startswith("Sure") else "safe"})
        assert main([*label, "--import", str(filled)]) == 0
    return path


@pytest.fixture(scope="module")
def found(db: Path) -> dict[str, Any]:
    with open_reader(db) as reader:
        return as_dict(reader, None)


class Outline(HTMLParser):
    """Tags with their attributes, the text of the page, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def problems(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of stderr but those on what takes a while."""
    return [one for one in capsys.readouterr().err.splitlines() if not one.startswith("report: ")]


def tables(found: dict[str, Any]) -> Iterator[Table]:
    for section in document(found).sections:
        for block in section.blocks:
            if isinstance(block, Table | Figure):
                yield block.table if isinstance(block, Figure) else block


def table(found: dict[str, Any], caption: str) -> list[tuple[str, ...]]:
    [one] = [table for table in tables(found) if table.caption.startswith(caption)]
    return [tuple(row) for row in one.rows]


def harmless(text: str) -> Outline:
    """The page runs nothing, fetches nothing, and is well-formed."""
    outline = Outline(text)
    assert outline.open == []
    names = {tag for tag, _ in outline.tags}
    assert not names & {
        "script",
        "iframe",
        "object",
        "embed",
        "link",
        "img",
        "base",
        "form",
        "image",
        "use",
        "a:href",
    }
    for tag, attributes in outline.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("href", "src", "xlink:href", "action", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
        assert "url(" not in (attributes.get("style") or "")
    assert re.search(r"@import|url\((?!#)|@font-face", text.split("</style>")[0]) is None
    assert "Content-Security-Policy" in text
    assert not re.search(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufffe\uffff]", text
    )
    return outline


def hostile(found: dict[str, Any], mark: Callable[[str], str]) -> dict[str, Any]:
    """The same scores under other names, wherever a name stands."""
    names = {
        "target",
        "without",
        "moderator",
        "judge",
        "name",
        "scenario",
        "reason",
        "identity",
        "first",
        "second",
    }
    names |= {"dataset_name", "dataset_licence", "dataset_path", "program_version", "model", "who", "guard"}
    names |= {"licence", "rubric", "refused", "panel", "verdict", "history", "images", "ending", "outcome"}

    def walk(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: walk(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner, "name" if key in ("judges", "warnings") else key) for inner in value]
        return mark(value) if isinstance(value, str) and key in names else value

    marked: dict[str, Any] = walk(copy.deepcopy(found))
    marked["run"]["settings"] = json.dumps({"provider": [HOSTILE], "judge": HOSTILE, HOSTILE: 1})
    marked["targets"][0]["sampling"] = json.dumps({HOSTILE: HOSTILE})
    marked["warnings"] = [mark("w")]
    return marked


def many(found: dict[str, Any], targets: int, scenarios: int) -> dict[str, Any]:
    """The demo's scores under so many targets and scenarios."""
    big = {name: copy.deepcopy(rows) for name, rows in found.items()}
    wide = []
    for row in found["asr_by_scenario"]:
        if row["scenario"] == "Animal Abuse":
            wide += [
                row | {"scenario": f"Scenario with a long name {place:02}"} for place in range(scenarios)
            ]
    big["asr_by_scenario"] = wide
    for name, rows in big.items():
        if isinstance(rows, list) and rows and isinstance(rows[0], dict):
            key = "target" if "target" in rows[0] else "name" if name == "targets" else None
            if key:
                big[name] = [
                    row
                    | {key: f"vendor/some-model-{place:02}-instruct {row[key].removeprefix('demo')}".strip()}
                    for place in range(targets)
                    for row in rows
                    if row[key] == "demo" or (name == "effects" and "demo-guard" in row[key])
                ]
    for correction in big["corrections"]:
        rates = [rate for rate in correction["by_turn"] if rate["target"] == "demo"]
        correction["by_turn"] = [
            rate | {"target": f"vendor/some-model-{place:02}-instruct"}
            for place in range(targets)
            for rate in rates
        ]
    return big


def test_the_demo_has_its_known_figures(found: dict[str, Any]) -> None:
    rates = {(row[0], row[1]): row for row in table(found, "ASR by number of user turns, with")}
    assert [rates["demo", k][2] for k in "12468"] == ["0.0", "33.3", "0.0", "66.7", "66.7"]
    # Wilson, 5 of 15; fewer than 30 replies are marked.
    assert rates["demo", "2"][3:] == ("15.2 to 58.3*", "5/15", "0", "100.0", "33.3", "33.3")
    index = {row[0]: row for row in table(found, "Safety Index and its factors")}
    assert index["demo"][1] == "0.7790"
    assert index["demo"][3:5] == ("0.9104", "0.8557")
    [weights] = table(found, "Weights")
    assert weights[1:] == ("0.7016", "0.2581", "0.0349", "0.0047", "0.0006")
    changes = {row[1]: row for row in table(found, "ASR without and with")}
    assert changes["all"][3:6] == ("33.3", "13.3", "-20.0")
    assert changes["all"][6].endswith("*")
    endings = {(row[0], row[1]): row[2:] for row in table(found, "Outcomes by target")}
    assert endings["demo", "8"] == ("10", "5", "0")
    assert endings["demo + demo-guard+block", "8"] == ("5", "5", "5")
    corrected = {(row[0], row[1]): row for row in table(found, "ASR corrected")}
    assert corrected["demo", "2"][2:4] == ("33.3", "33.3")


def test_every_planned_conversation_is_in_the_outcomes(found: dict[str, Any]) -> None:
    for target in ("demo", "demo + demo-guard+block"):
        rows = [row for row in table(found, "Outcomes by target") if row[0] == target]
        assert sum(int(cell) for row in rows for cell in row[2:]) == 75


def test_latency_is_that_of_the_model(found: dict[str, Any]) -> None:
    times = {row["target"]: row for row in found["latency"]}
    assert times["demo"]["timed"] == times["demo"]["replies"] == 75
    # The guard refused 20 without asking it.
    assert times["demo + demo-guard+block"]["replies"] == 55
    assert times["demo"]["median_s"] <= times["demo"]["p95_s"] <= times["demo"]["max_s"]
    assert found["last_event"] == "finished"
    assert sum(found["index_weights"].values()) == pytest.approx(1)


def test_unknown_is_said_and_never_zero(found: dict[str, Any]) -> None:
    bare = copy.deepcopy(found)
    for row in bare["asr_by_turn"]:
        row |= {
            "unsafe": 0,
            "safe": 0,
            "scored": 0,
            "asr": None,
            "low": None,
            "high": None,
            "coverage": 0.0,
            "asr_best": 0.0,
            "asr_worst": 1.0,
        }
    for row in bare["safety_index"]:
        row |= dict.fromkeys(("safety_index", "exposure", "consistency", "low", "high", "best", "worst"))
        row["refused"] = "round 8 is missing"
    for row in bare["spend"]:
        row |= {"cost_usd": None, "calls_of_unknown_cost": row["calls"], "prompt_tokens": None}
    for row in bare["latency"]:
        row |= {"timed": 0, "median_s": None, "p95_s": None, "max_s": None}
    bare |= {"effects": [], "corrections": [], "agreement": [], "trends": [], "last_event": "stopped"}
    row = table(bare, "ASR by number of user turns, with")[0]
    assert row[2:5] == ("unknown", "unknown", "0/0")
    assert table(bare, "Safety Index")[0][1:] == (*["unknown"] * 6, "round 8 is missing")
    spent = table(bare, "Calls, tokens")[-1]
    assert (spent[2], spent[6]) == ("unknown", "unknown")
    assert table(bare, "Seconds")[0][3:] == ("unknown",) * 3
    text = page.html(bare)
    assert "round 8 is missing" in text
    assert "not finished" in text
    assert "over-refusal is unknown" in text
    harmless(text)


def test_without_a_judge_there_is_still_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["safemt"])
    db = tmp_path / "n.duckdb"
    words = ["--provider", "demo", "--judge", "none", "--turns", "1,2", "--limit", "3"]
    assert main([*words, "--db", str(db), "--quiet"]) == 0
    files = [tmp_path / name for name in ("r.html", "r.md", "r.tex")]
    flags = [str(part) for pair in zip(("--html", "--md", "--latex"), files, strict=True) for part in pair]
    assert main(["report", "--db", str(db), *flags]) == 0
    assert "none: nothing is labelled" in files[0].read_text()


def test_the_page_is_whole_offline_and_accessible_in_shape(found: dict[str, Any]) -> None:
    text = page.html(found)
    outline = harmless(text)
    drawn = [
        attributes for tag, attributes in outline.tags if tag == "svg" and attributes.get("role") == "img"
    ]
    assert len(drawn) > 10
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in drawn:
        assert set((attributes["aria-labelledby"] or "").split()) <= set(ids)
    # Each figure has its table.
    assert text.count("<figure>") == text.count("<details>")
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert not re.search(r"https?://", re.sub(r'xmlns="[^"]*"', "", text))


@pytest.mark.parametrize(
    "mark",
    [
        lambda name: name + HOSTILE,
        lambda name: HOSTILE + name,
        lambda name: name + "x" * 1_000_000,
        lambda name: name[:3] + "\x00\ud800" + name,
    ],
    ids=["after", "before", "a megabyte", "null and a lone surrogate"],
)
def test_hostile_names_are_text(found: dict[str, Any], mark: Callable[[str], str]) -> None:
    bad = hostile(found, mark)
    text = page.html(bad)
    outline = harmless(text)
    assert len(text) < 3_000_000
    if "<script>" in mark(""):
        assert "<script>alert(1)" in "".join(outline.text)
    written = page.markdown_text(bad)
    body = re.sub(r"(?s)```.*?```", "", written)
    assert "<" not in body
    assert "](" not in body.replace("\\](", "")
    assert "@" not in body
    assert not re.search(r"(?<!\\)`(?!safemt)", body.replace("`safemt.toml`", ""))
    assert "://" not in body.replace("\\://", "")
    well_formed(written)
    tables_ = page.latex_tables(bad)
    balanced(tables_)
    for forbidden in (r"\input{/", "${x}", "_ ^"):
        assert forbidden not in tables_.replace("\\input this file", "")
    for text in (written, tables_):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e]", text)


def well_formed(text: str) -> None:
    """Each table's rows have as many cells as its head."""
    width = 0
    for line in re.sub(r"(?s)```.*?```", "", text).splitlines():
        if line.startswith("|"):
            cells = len(re.findall(r"(?<!\\)\|", line.replace("\\\\", ""))) - 1
            assert cells == (width or cells), line
            width = cells
        else:
            width = 0


def balanced(text: str) -> None:
    """Braces and environments close, and each row has as many cells as its table has columns."""
    head, _, tables = text.partition("\\providecommand{\\safemtend}{}\n")
    assert head.endswith("\\fi\n\\providecommand{\\safemtchar}[2]{U+#1}\n")
    body = "\n".join(line for line in tables.splitlines() if not line.startswith("%"))
    bare = body.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")
    assert body.count(r"\begin{longtable}") == body.count(r"\end{longtable}") > 5
    for part in body.split(r"\begin{longtable}")[1:]:
        spec = re.sub(r"p\{[^}]*\}", "l", part[1 : part.index("\n") - 1])
        for line in part.split(r"\end{longtable}")[0].splitlines():
            if line.endswith(r" \\"):
                assert len(re.findall(r"(?<!\\)&", line)) == len(spec) - 1, line
    assert not re.search(r"(?<!\\)[$#^~%]", body)


@pytest.mark.slow
def test_seventeen_targets_stay_below_five_megabytes(found: dict[str, Any]) -> None:
    big = many(found, 17, 17)
    text = page.html(big)
    assert len(text.encode()) < 5_000_000
    harmless(text)
    for place in range(17):
        assert f"vendor/some-model-{place:02}-instruct" in text


def test_markdown_and_latex_hold_the_same_tables(found: dict[str, Any]) -> None:
    written, tables_ = page.markdown_text(found), page.latex_tables(found)
    well_formed(written)
    balanced(tables_)
    for one in tables(found):
        assert f"**{markdown_escaped(one.caption)}**" in written
        assert rf"\caption{{{latex_escaped(one.caption)}}}" in tables_
    assert "| demo | 2 | 33.3 | 15.2 to 58.3\\* | 5/15 |" in written
    assert r"demo & 2 & 33.3 & 15.2 to 58.3{*} & 5/15 &" in tables_


def test_the_settings_can_be_run_again(found: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["safemt"])
    config, again = tmp_path / "safemt.toml", tmp_path / "again.duckdb"
    text = toml_of(found)
    assert text is not None
    config.write_text(text)
    assert main(["--config", str(config), "--db", str(again), "--quiet"]) == 0
    with open_reader(again) as reader:
        assert reader.query("SELECT fingerprint FROM runs").rows == [(found["run"]["fingerprint"],)]
    bad = hostile(found, lambda name: name)
    assert tomllib.loads(toml_of(bad) or "")["provider"] == [HOSTILE]


def test_files_are_replaced_as_a_whole(db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.html"
    out.write_text("before")
    assert main(["report", "--db", str(db), "--html", str(out), "--md", str(tmp_path / "o.md")]) == 0
    assert capsys.readouterr().out.split() == [str(out), str(tmp_path / "o.md")]
    assert out.read_text().startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.md", "out.html"]
    for words, problem in (
        (["--html", str(tmp_path / "none" / "x.html")], "No such file or directory"),
        (["--latex", str(tmp_path)], "is a folder"),
        (["--md", str(db)], "is the store"),
        (["--md", str(out), "--latex", str(out)], "named for two formats"),
    ):
        assert main(["report", "--db", str(db), *words]) == 2
        assert [problem in one for one in problems(capsys)] == [True]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.md", "out.html"]


@pytest.mark.parametrize("module", ["altair", "vl_convert", "jinja2"])
def test_a_missing_extra_is_named(
    db: Path, tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, md = tmp_path / "out.html", tmp_path / "out.md"
    monkeypatch.setitem(sys.modules, module, None)
    for drawing in ("html", "plots"):
        monkeypatch.delitem(sys.modules, f"safemt_client.results.report.{drawing}", raising=False)
    assert main(["report", "--db", str(db), "--html", str(out)]) == 2
    (error,) = problems(capsys)
    assert "pip install 'safemt-client[report]'" in error
    assert not out.exists()
    assert main(["report", "--db", str(db), "--md", str(md)]) == 0
    assert md.exists()


def test_nothing_of_it_is_imported_for_the_terminal(db: Path) -> None:
    code = (
        "import sys\nfrom safemt_client.__main__ import main\nmain(sys.argv[1:])\n"
        "sys.exit(any(name in sys.modules for name in ('altair', 'vl_convert', 'jinja2')))"
    )
    words = [sys.executable, "-c", code, "report", "--db", str(db)]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_names_that_look_alike_stay_apart() -> None:
    names = ["a" * 500 + "x", "a" * 500 + "y", "b\n", "b ", "b"]
    assert len(set(unique(names).values())) == 5
    assert show("x" * 1_000_000).endswith("(1,000,000 characters)")
    assert show("\u202e\u2028\x1b\uffff") == "\\x202e\\u2028\\x1b\\uffff"


def test_a_drawing_keeps_only_shapes_and_texts() -> None:
    drawn = inline(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9" onload="x()">'
        '<script>x()</script><style>*{}</style><foreignObject/><image xlink:href="http://evil.example/x"/>'
        '<a href="javascript:x()"><text>no</text></a><g clip-path="url(#c)" fill="url(http://evil.example)">'
        '<defs><clipPath id="c"><rect width="1"/></clipPath></defs><text onclick="x()">&lt;b&gt;</text></g></svg>',
        "p1",
        "<title>",
        "says",
        "one",
    )
    assert drawn.startswith("<svg ")
    for word in ("script", "style", "foreignObject", "image", "href", "onclick", "onload", "evil", ">no<"):
        assert word not in drawn
    assert 'clip-path="url(#p1-c)"' in drawn
    assert 'id="p1-c"' in drawn
    assert "&lt;title&gt;" in drawn


def test_the_legend_shows_the_marks_of_the_plot(found: dict[str, Any]) -> None:
    from safemt_client.results.report.html import _KEYS
    from safemt_client.results.report.plots import draw

    [index] = [section for section in document(found).sections if section.key == "index"]
    [figure] = [block for block in index.blocks if isinstance(block, Figure)]
    [plot] = figure.panels
    assert [words for _, words in figure.legend] == plot.options["series"]
    for (key, _), name in zip(figure.legend, plot.options["series"], strict=True):
        one = [row | {"small": False, "low": None} for row in map(dict, plot.data) if row["series"] == name]
        marks = re.findall(
            r'<path [^>]*d="([^"]*)"[^>]*fill="(#[0-9a-f]{6})"', draw(Plot(*_head(plot), one, plot.options))
        )
        shape, fill = marks[-1]
        assert f'fill="{fill}"' in _KEYS[key]
        assert {"A": "circle", "h": "square", "L": "triangle"}[re.findall(r"[AhL]", shape)[0]] == key


def test_each_kind_of_plot_is_a_valid_chart(found: dict[str, Any]) -> None:
    from safemt_client.results.report.plots import chart_of

    plots = {}
    for section in document(found).sections:
        for figure in section.blocks:
            if isinstance(figure, Figure):
                plots |= {plot.kind: plot for plot in figure.panels}
    assert set(plots) == {"lines", "heat", "dots", "slopes", "stacks", "ranges"}
    for plot in plots.values():
        # As Altair does it unless told otherwise: it checks each part, and the whole.
        chart_of(plot).to_dict()


def _head(plot: Plot) -> tuple[Any, str, str]:
    return plot.kind, plot.title, plot.description
