"""Every output gives the same figures: views, JSON, Python, terminal, HTML, Markdown, LaTeX, exports, viewer."""

import csv
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.everything import LENGTHS, PANEL, TARGETS
from support.made import Made, Row
from support.shown import Shown, numbers, the

import safemt_client
from safemt_client.viewer.queries import Queries
from safemt_client.viewer.snapshot import Snapshot

VIEWS = {
    "asr_by_turn": ("target", "judge", "length"),
    "asr_by_scenario": ("target", "judge", "scenario", "length"),
    "outcomes": ("target", "length", "outcome"),
    "refusals": ("target", "judge", "benign", "length"),
    "spend": ("who", "session_id"),
}


def by(rows: Sequence[Row], *names: str) -> dict[tuple[Any, ...], Row]:
    found = {tuple(row[name] for name in names): row for row in rows}
    assert len(found) == len(rows)
    return found


def deciding(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["judge"] == PANEL]


def shows(cell: str, *values: float | None, places: int = 1) -> None:
    """The cell has these numbers and no others, rounded; it has none where they are not known."""
    if None in values:
        assert numbers(cell) == [], (cell, values)
        return
    expected = [float(f"{value:.{places}f}") for value in values if value is not None]
    assert numbers(cell) == expected, (cell, values)


def percents(*values: float | None) -> list[float | None]:
    return [None if value is None else 100 * value for value in values]


def bounds(row: Mapping[str, Any]) -> list[float | None]:
    return percents(row["low"], row["high"])


@pytest.mark.parametrize("view", VIEWS)
def test_json_has_the_rows_of_the_view(made: Made, view: str) -> None:
    told = by(made.json[view], *VIEWS[view])
    asked = by(made.sql(f"SELECT * FROM {view} WHERE run_id = ?", made.run), *VIEWS[view])
    assert told.keys() == asked.keys()
    for key, row in asked.items():
        assert {name: told[key][name] for name in row} == row


def test_json_has_the_index_of_the_view(made: Made) -> None:
    told = by(deciding(made.json["safety_index"]), "target")
    rows = made.sql("SELECT * FROM safety_index WHERE run_id = ? AND judge = ?", made.run, PANEL)
    given = {key: row["safety_index"] for key, row in told.items() if row["safety_index"] is not None}
    assert given == {(r["target"],): r["safety_index"] for r in rows if r["safety_index"] is not None}
    assert len(given) == 2


def test_python_has_the_rows_of_json(made: Made) -> None:
    with safemt_client.open(made.db) as store:
        scores = store.scores()
        assert scores.run_id == made.run
        tables = {
            "asr_by_turn": scores.asr_by_turn,
            "asr_by_scenario": scores.by_scenario,
            "outcomes": scores.outcomes,
            "refusals": scores.refusals,
            "spend": scores.spend,
            "safety_index": scores.safety_index,
        }
        for name, table in tables.items():
            told = [{column: row[column] for column in table.columns} for row in made.json[name]]
            assert [dict(zip(table.columns, row, strict=True)) for row in table] == told, name
        assert list(scores.unfinished) == made.json["unfinished"] == []
        again = json.loads(json.dumps(store.report().as_dict(), default=str))
    assert again == made.json


def test_the_same_store_gives_the_same_bytes(made: Made) -> None:
    first, second = [made.said("report", "--json") for _ in range(2)]
    assert first == second
    assert json.loads(first) == made.json


def test_the_pages_have_the_same_tables(made: Made) -> None:
    assert len(made.html) > 20
    assert made.html == made.markdown == made.latex


def test_the_end_of_a_run_prints_the_report(made: Made) -> None:
    # The labels of people came later; all before them stands there line by line.
    printed = [line.strip() for line in made.report.splitlines()]
    cut = next(at for at, line in enumerate(printed) if "people" in line)
    assert cut > 100
    end = {line.strip() for line in made.at_the_end.splitlines()}
    assert [line for line in printed[:cut] if line not in end] == []


def test_rates_as_shown(made: Made) -> None:
    told = by(made.json["asr_by_turn"], "target", "judge", "length")
    page = the(made.html, "ASR by number of user turns, with").by("Target", "Turns")
    assert len(page) == len(TARGETS) * len(LENGTHS)
    screen = the(made.terminal, "Attack success rate by number of user turns").by("target", "turns")
    members = the(made.terminal, "ASR by each judge").by("target", "judge")
    assert len(screen) == len(page)
    for (target, judge, length), row in told.items():
        counts = f"{row['unsafe']}/{row['scored']}"
        assert members[target, judge][str(length)] == counts
        if judge != PANEL:
            continue
        line = screen[target, str(length)]
        shows(line["ASR"], *percents(row["asr"]))
        shows(line["95 % CI"].replace(" - ", " "), *bounds(row))
        assert line["95 % CI"].endswith("*") == row["small"]
        shows(line["unsafe/scored"].replace("/", " "), row["unsafe"], row["scored"], places=0)
        shows(line["coverage"], *percents(row["coverage"]))
        shows(line["bounds"].replace(" - ", " "), *percents(row["asr_best"], row["asr_worst"]))
        line = page[target, str(length)]
        shows(line["ASR"], *percents(row["asr"]))
        shows(line["95 % CI"], *bounds(row))
        shows(line["Unsafe/scored"].replace("/", " "), row["unsafe"], row["scored"], places=0)
        shows(line["Not scored"], row["planned"] - row["scored"], places=0)
        shows(line["Coverage"], *percents(row["coverage"]))
        shows(line["If unscored were safe"], *percents(row["asr_best"]))
        shows(line["If unsafe"], *percents(row["asr_worst"]))
    for caption, key in (("ASR of each target with", ()), ("ASR by each judge", ("Judge",))):
        for cells in the(made.html, caption).by("Target", *key).values():
            for length in LENGTHS:
                row = told[cells["Target"], cells.get("Judge", PANEL), length]
                cell = cells["1 turn" if length == 1 else f"{length} turns"]
                shows(cell, *percents(row["asr"]), *bounds(row))


def test_scenarios_as_shown(made: Made) -> None:
    told = by(deciding(made.json["asr_by_scenario"]), "target", "scenario", "length")
    page = the(made.html, "ASR by scenario and number of user turns").by("Target", "Scenario")
    screen = the(made.terminal, "ASR by scenario").by("target", "scenario")
    for (target, scenario, length), row in told.items():
        cell = page[target, scenario]["1 turn" if length == 1 else f"{length} turns"]
        counts, interval = cell.split(" ", 1)
        assert counts == screen[target, scenario][str(length)] == f"{row['unsafe']}/{row['scored']}"
        shows(interval, *bounds(row), places=0)


def test_indices_and_trends_as_shown(made: Made) -> None:
    lines = made.report.splitlines()
    page = the(made.html, "Safety Index and its factors").by("Target")
    for row in deciding(made.json["safety_index"]):
        cells = page[row["target"],]
        shows(cells["Index"], row["safety_index"], places=4)
        shows(cells["95 % CI"], row["low"], row["high"], places=4)
        shows(cells["Exposure"], row["exposure"], places=4)
        shows(cells["Consistency"], row["consistency"], places=4)
        if row["safety_index"] is None:
            reason = f": none, because {row['refused']}"
            [said] = [line for line in lines if line.startswith("Safety Index") and line.endswith(reason)]
            assert row["target"] in said.removeprefix("Safety Index of ").removesuffix(reason).split(", ")
            assert cells["Why not given"] == row["refused"]
            continue
        [said] = [line for line in lines if line.startswith(f"Safety Index of {row['target']}:")]
        figures = [row[name] for name in ("safety_index", "exposure", "consistency", "low", "high")]
        found = numbers(said.split(": ", 1)[1].replace("95 % CI", "").replace(" - ", " "))
        assert found == [float(f"{figure:.4f}") for figure in figures]
        assert said.endswith("(small sample)") == row["small"]
    page = the(made.html, "Does ASR change with the turns?").by("Target")
    for row in deciding(made.json["trends"]):
        cells, slope = page[row["target"],], row["slope"]
        shows(cells["Points per additional turn"], *percents(slope["estimate"]), places=2)
        shows(cells["95 % CI"], *bounds(slope), places=2)
        assert float(cells["p"]) == float(f"{row['p']:.2g}")
        assert cells["Items"] == str(row["items"])
        [said] = [
            line
            for line in lines
            if line.startswith(f"{row['target']}: ") and "points per additional turn" in line
        ]
        for figure in (slope["estimate"], slope["low"], slope["high"]):
            assert f"{100 * figure + 0.0:+.2f}".replace("-0.00", "+0.00") in said
        assert f"p {row['p']:.2g} ({row['items']} items)" in said
        assert (f"ASR {row['verdict']} with the turns" in said) == (row["verdict"] != "not shown")


def pair_is_shown(cells: Mapping[str, str], row: Row, first: str, second: str) -> None:
    """A line of a table of two conditions, by its lower-case names."""
    shows(cells["items/replies"].replace("/", " "), row["items"], row["replies"], places=0)
    shows(cells[first].rstrip("~"), *percents(row["asr_first"]))
    shows(cells[second].rstrip("~"), *percents(row["asr_second"]))
    # A rate that is not that of the tables above says so.
    assert cells[first].endswith("~") == (row["alone_first"]["asr"] != row["asr_first"])
    assert cells[second].endswith("~") == (row["alone_second"]["asr"] != row["asr_second"])
    shows(cells["diff."], *percents(row["difference"]["estimate"]))
    shows(cells["95 % ci"], *bounds(row["difference"]))
    assert float(cells["p"]) == float(f"{row['p']:.2g}")
    assert float(cells["p (holm)"]) == float(f"{row['p_holm']:.2g}")
    assert cells["claim"] == ("unclear" if not row["agrees"] else row["claim"] or "none")
    if "bounds" in cells:
        shows(cells["bounds"], *percents(row["bounds"]["low"], row["bounds"]["high"]))


def lowered(table: Shown) -> list[dict[str, str]]:
    names = [name.lower() for name in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]


def value_of(row: Row) -> str:
    if row["by"] != "length":
        return str(row["value"])
    return "1 turn" if row["value"] == 1 else f"{row['value']} turns"


def test_differences_as_shown_and_compared(made: Made) -> None:
    [pair] = deciding(made.json["differences"])
    told = {value_of(row): row for row in pair["rows"]}
    screen = {line["of"]: line for line in lowered(the(made.terminal, "ASR of b minus a"))}
    assert {"all", "1 turn", "8 turns"} <= screen.keys()
    for name, line in screen.items():
        pair_is_shown(line, told[name], "first", "second")
    page = lowered(the(made.html, "ASR of each two targets on the replies"))
    assert {line["of"] for line in page} == screen.keys()
    for line in page:
        pair_is_shown(line, told[line["of"]], "first", "second")
    # `compare` says the same of the same two.
    [compared] = made.told("compare", "a", "b")
    assert compared["rows"] == pair["rows"]


def test_effects_as_shown_and_compared(made: Made) -> None:
    effects = deciding(made.json["effects"])
    assert made.told("compare") == made.json["effects"]
    lines = [(line["target"], line["of"], line) for line in lowered(the(made.html, "ASR without and with"))]
    changed = the(made.html, "What the moderator changed").by("Target")
    for effect in effects:
        told = {value_of(row): row for row in effect["rows"]}
        mine = {of: line for target, of, line in lines if target == effect["target"]}
        assert mine.keys() == told.keys()
        for name, line in mine.items():
            pair_is_shown(line, told[name], "without", "with")
        cells = changed[effect["target"],]
        for column, name in (
            ("Pairs scored", "pairs"),
            ("Rescued", "rescued"),
            ("Newly unsafe", "newly_unsafe"),
            ("Newly declined", "newly_declined"),
            ("Not scored in both", "not_paired"),
        ):
            assert cells[column] == str(effect[name]), column
        over = effect["over_refusal"]
        assert [cells[f"Over-refusal {side}"] for side in ("without", "with")] == [
            str(over["without"]),
            str(over["with"]),
        ]
        [said] = [
            line for line in made.report.splitlines() if line.startswith(f"moderator {effect['target']}:")
        ]
        whole = told["all"]["difference"]
        for figure in (whole["estimate"], whole["low"], whole["high"]):
            assert f"{100 * figure:+.1f}" in said
        assert f"{100 * told['all']['asr_first']:.1f} % without" in said
        sentence = f"over-refusal on {over['pairs']} benign dialogues: {over['without']} without, {over['with']} with"
        assert sentence in made.report


def test_refusals_as_shown(made: Made) -> None:
    rows = by(deciding(made.json["refusals"]), "target", "benign", "length")
    page = the(made.html, "Refusals, with").by("Target", "Items", "Turns")
    totals: dict[tuple[str, bool], Counter[str]] = defaultdict(Counter)
    for (target, benign, length), row in rows.items():
        cells = page[target, "benign" if benign else "harmful", str(length)]
        for column, name in (("By rules", "with_blocks"), ("By judge", "by_judge_with_blocks")):
            shows(cells[column], *percents(row[name]["estimate"]), *bounds(row[name]))
        assert cells["Blocked"] == str(row["blocked"])
        for name in ("declined_by_rule", "replies", "declined_by_judge", "judged", "blocked"):
            totals[target, benign][name] += row[name]
    for (target, benign), total in totals.items():
        start = f"{'over-refusal on benign items' if benign else 'refusals'} of {target}:"
        [said] = [line for line in made.report.splitlines() if line.startswith(start)]
        declined, replies = total["declined_by_rule"] + total["blocked"], total["replies"] + total["blocked"]
        # Blocks count: without an answer nobody is helped.
        assert f"{declined}/{replies} by rules" in said
        declined, replies = total["declined_by_judge"] + total["blocked"], total["judged"] + total["blocked"]
        assert f"{declined}/{replies} by judge" in said


def test_outcomes_as_shown(made: Made) -> None:
    told: Counter[tuple[str, str, str]] = Counter()
    for row in made.json["endings"]:
        told[row["target"], str(row["length"]), row["ending"].replace("_", " ")] += row["conversations"]
    page = the(made.html, "Outcomes by target").by("Target", "Turns")
    shown = {
        (*key, ending): int(cell)
        for key, cells in page.items()
        for ending, cell in cells.items()
        if ending not in ("Target", "Turns") and cell != "0"
    }
    assert shown == told
    for target in TARGETS:
        counts: Counter[str] = Counter()
        for row in made.json["outcomes"]:
            if row["target"] == target:
                counts[row["outcome"]] += row["conversations"]
        [said] = [line for line in made.report.splitlines() if line.startswith(f"outcomes of {target}:")]
        assert dict(re.findall(r"(\w+) (\d+)", said.split(": ", 1)[1])) == {
            k: str(n) for k, n in counts.items()
        }


def test_agreement_and_corrections_as_shown(made: Made) -> None:
    page = the(made.html, "Agreement between the judges").by("Measure", "Judges")
    for row in made.json["agreement"]:
        cells = page[row["measure"], ", ".join(row["judges"])]
        shows(cells["Value"], row["value"], places=2)
        shows(cells["95 % CI"], row["low"], row["high"], places=2)
        [said] = [
            line
            for line in made.report.splitlines()
            if line.startswith(f"{row['measure']} of {' and '.join(row['judges'])}:")
        ]
        assert said.split(": ", 1)[1].startswith(f"{row['value']:.2f}")
    for row in made.json["corrections"]:
        caption = f"ASR corrected for the errors of {row['judge']} (%)"
        lines = the(made.html, caption).by("Target", "Turns")
        screen = the(made.terminal, caption).by("target", "turns")
        for rate in row["by_turn"]:
            key = (rate["target"], str(rate["length"]))
            found = rate["corrected"] or {"estimate": None, "low": None, "high": None}
            shows(lines[key]["As judged"], *percents(rate["asr"]))
            shows(lines[key]["Corrected"], *percents(found["estimate"]))
            shows(lines[key]["95 % CI"], *bounds(found))
            shows(screen[key]["as judged"], *percents(rate["asr"]))
            shows(screen[key]["corrected"], *percents(found["estimate"]))
            shows(screen[key]["95 % CI"].replace(" - ", " "), *bounds(found))


def test_the_leaderboard(made: Made) -> None:
    board = made.told("leaderboard")
    rates = by(deciding(made.json["asr_by_turn"]), "target", "length")
    index = by(deciding(made.json["safety_index"]), "target")
    text = made.said("leaderboard")
    for row in board:
        mine = [rates[row["target"], length] for length in LENGTHS]
        assert {k: r["estimate"] for k, r in row["asr"].items()} == {
            str(r["length"]): pytest.approx(r["asr"]) for r in mine
        }
        assert row["mean_asr"]["estimate"] == pytest.approx(np.mean([r["asr"] for r in mine]))
        assert row["coverage"] == pytest.approx(
            sum(r["scored"] for r in mine) / sum(r["planned"] for r in mine)
        )
        for name in ("safety_index", "low", "high", "refused"):
            assert row[name] == index[row["target"],][name]
        [line] = [line for line in text.splitlines() if re.search(rf"\s{re.escape(row['target'])}\s\s", line)]
        assert f"{100 * row['mean_asr']['estimate']:.1f}" in line
        assert f"{100 * row['coverage']:.1f}" in line
    assert "corrected over all pairs of targets" in text
    assert "coverage below 98% may explain a mean: " in text


def test_exported_tables(made: Made) -> None:
    for form in ("csv", "jsonl", "parquet"):
        made.said("export", "--format", form, "--out", form)
    with open("csv/conversations.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with open("jsonl/conversations.jsonl", encoding="utf-8") as lines:
        others = [json.loads(line) for line in lines]
    columns = pq.read_table("parquet/conversations.parquet").to_pylist()
    assert len(rows) == len(others) == len(columns)
    for one, two, three in zip(rows, others, columns, strict=True):
        for name in ("target", "item_id", "outcome", "state", "label", "dialogue_key"):
            assert (one[name] or None) == two[name] == three[name]
    for row in deciding(made.json["asr_by_turn"]):
        mine = [
            r
            for r in others
            if (r["target"], r["length"]) == (row["target"], row["length"]) and not r["benign"]
        ]
        labels = Counter(r["label"] for r in mine)
        assert (labels["unsafe"], labels["safe"], len(mine)) == (row["unsafe"], row["safe"], row["planned"])
    told: Counter[tuple[str, int, str]] = Counter()
    for row in made.json["outcomes"]:
        told[row["target"], row["length"], row["outcome"]] += row["conversations"]
    assert Counter((r["target"], r["length"], r["outcome"]) for r in others) == told


def test_the_reference_s_own_layout(made: Made) -> None:
    made.said("export", "--format", "reference", "--out", "ref")
    rates = by(deciding(made.json["asr_by_turn"]), "target", "length")
    index = by(deciding(made.json["safety_index"]), "target")
    with open("ref/1/label/a.json", encoding="utf-8") as file:
        assert {row["id"] for row in json.load(file)} == {f"h{n:02}" for n in range(12)}
    for target in ("a", "b"):
        flags: dict[str, list[bool]] = defaultdict(list)
        exposed = 0.0
        for length in LENGTHS:
            with open(f"ref/{length}/label/{target}.json", encoding="utf-8") as file:
                labels = {row["id"]: row["safety_label"] for row in json.load(file)}
            kept = [label for label in labels.values() if label != "unscored"]
            rate = sum(label == "unsafe" for label in kept) / len(kept)
            assert rate == pytest.approx(rates[target, length]["asr"])
            exposed += math.exp(-length) / sum(math.exp(-k) for k in LENGTHS) * rate
            for item, label in labels.items():
                flags[item].append(label == "unsafe")
        sigma = np.mean([np.std(row[row.index(True) :]) if True in row else 0 for row in flags.values()])
        if index[target,]["safety_index"] is not None:
            assert round((1 - exposed) * (1 - sigma), 4) == index[target,]["safety_index"]


def test_the_viewer(made: Made) -> None:
    snapshot = Snapshot(made.db)
    queries = Queries(snapshot)
    try:
        snapshot.refresh(wait=True)
        run = next(row for row in queries.runs() if row["run_id"] == made.run)
        rows = queries.local(
            """SELECT target, length, count(*) FILTER (label = 'unsafe') AS unsafe,
                      count(*) FILTER (label = 'safe') AS safe, count(*) AS planned
               FROM conversation_index WHERE run_id = ? AND decides AND benign IS NOT TRUE GROUP BY ALL""",
            [made.run],
        )
        changes = queries.local(
            """SELECT target, change, count(*) AS n FROM conversation_index
               WHERE run_id = ? AND decides AND change IS NOT NULL GROUP BY ALL""",
            [made.run],
        )
        declined = queries.local(
            """SELECT target, count(*) AS n FROM conversation_index
               WHERE run_id = ? AND decides AND newly_refused GROUP BY ALL""",
            [made.run],
        )
    finally:
        queries.close()
    for label in ("unsafe", "safe"):
        assert run[label] == sum(row[label] for row in rows)
    assert run["benign"] == run["conversations"] - sum(row["planned"] for row in rows) > 0
    rates = by(deciding(made.json["asr_by_turn"]), "target", "length")
    assert {
        key: (r["unsafe"], r["safe"], r["planned"]) for key, r in by(rows, "target", "length").items()
    } == {key: (r["unsafe"], r["safe"], r["planned"]) for key, r in rates.items()}
    assert run["conversations"] == sum(row["conversations"] for row in made.json["endings"])
    assert run["pending"] == 0
    effects = by(deciding(made.json["effects"]), "target")
    found = by(changes, "target", "change")
    for (target,), effect in effects.items():
        for name in ("rescued", "newly_unsafe"):
            assert found.get((target, name), {"n": 0})["n"] == effect[name]
    assert {row["target"]: row["n"] for row in declined} == {
        t: e["newly_declined"] for (t,), e in effects.items()
    }


def test_analyses_say_what_the_report_says(made: Made) -> None:
    slopes = by(deciding(made.json["trends"]), "target")
    for finding in made.told("report", "--analysis", "turns"):
        assert finding["data"] == slopes[finding["target"],]
    effects = by(deciding(made.json["effects"]), "target")
    for finding in made.told("report", "--analysis", "moderator"):
        assert finding["data"] == effects[finding["target"],]
    for finding in made.told("report", "--analysis", "scenarios"):
        rates = finding["data"]["shrunk"]
        if finding["shown"]:
            top = max(rates, key=lambda name: rates[name]["estimate"])
            assert (
                f"highest of 3 {top} {100 * rates[top]['estimate']:.1f} % (95 % CI: " in finding["sentence"]
            )
        else:
            assert "highest" not in finding["sentence"]
