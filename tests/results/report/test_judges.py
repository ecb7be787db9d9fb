"""The section about judges: what is not estimable says why, in every form."""

from typing import Any

from safemt_client.results.report.data import ReportData
from safemt_client.results.report.document import Figure, Notes, Table
from safemt_client.results.report.sections.judges import judges

WHY = "nobody labelled a reply that the judge calls unsafe"


def found() -> dict[str, Any]:
    errors: dict[str, Any] = dict.fromkeys(
        ("sensitivity", "specificity", "agreement", "unsafe_if_called_unsafe", "unsafe_if_called_safe")
    )
    errors |= {"labelled": 40, "errors_not_estimable": WHY}
    rate = {
        "target": "t",
        "asr": 0.1,
        "corrected": None,
        "not_estimable": WHY,
        "judge_errors": "of all lengths",
    }
    return {
        "deciding_judge": "k",
        "judges": [{"judge_key": "k", "name": "j"}],
        "targets": [{"name": "t"}],
        **{name: [] for name in ("asr_by_turn", "endings", "agreement", "escalated")},
        "corrections": [
            errors
            | {"judge": "j", "judge_key": "k", "targets": 1}
            | {"by_turn": [rate | {"length": 1}], "by_target": [rate | errors]}
        ],
    }


def test_what_no_label_bears_on_is_not_estimable_and_says_why() -> None:
    section = judges(ReportData(found()))
    assert section is not None
    blocks = [block.table if isinstance(block, Figure) else block for block in section.blocks]
    against, corrected = (block for block in blocks if isinstance(block, Table))
    assert against.rows == [("j", "t", "40", *["not estimable"] * 5)]
    assert corrected.rows == [
        ("t", "1", "10.0", "not estimable", "unknown", WHY),
        ("t", "all", "10.0", "not estimable", "unknown", WHY),
    ]
    lines = [line for block in section.brief if isinstance(block, Notes) for line in block.lines]
    assert any(f"sensitivity not estimable ({WHY})" in line for line in lines)
    assert corrected in section.brief
