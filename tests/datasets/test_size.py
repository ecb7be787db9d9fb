"""What large data take, counted: no clock."""

import hashlib
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.dialogues import lines, put, record, reply, user

from safemt_client.datasets import open_dataset
from safemt_client.datasets.model import Dataset, Dialogue, ScriptedMessage

TEXTS = st.sampled_from(["a", "a b", 'a"', "a,", "a\n", "é", "a!", "b", "ab", 'a", 1'])
DIALOGUES = st.lists(
    st.builds(
        lambda item, texts: Dialogue(item, tuple(ScriptedMessage("user", text) for text in texts)),
        TEXTS,
        st.lists(TEXTS, min_size=1, max_size=12),
    ),
    max_size=8,
)


@pytest.mark.parametrize("name", ["d.jsonl", "d.json"])
def test_memory_for_each_record(name: str, tmp_path: Path) -> None:
    """100,000 records of this size stay below 300 MB, the program itself included."""
    count = 3_000
    made = [
        record(
            *(user("What is tea? " * 5), reply("It is a drink. " * 8), user("How is it made? " * 4)),
            id=f"tea_{number}",
            scenario="Satire",
            question=f"How is tea number {number} made?",
            image_path=f"images/tea_{number}.jpg",
        )
        for number in range(count)
    ]
    text = lines(*made)
    path = put(tmp_path / name, text if name == "d.jsonl" else made)
    tracemalloc.start()
    data = open_dataset(str(path))
    _ = data.digest
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(data.dialogues) == count
    assert held / count < 1_740
    # The text of an array is held, as bytes and then as a string, with its buffer.
    assert (peak - (0 if name == "d.jsonl" else 3 * len(text))) / count < 2_000


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(DIALOGUES)
def test_the_digest_is_that_of_the_sorted_lines(dialogues: list[Dialogue]) -> None:
    rows = sorted(
        json.dumps([d.item_id, d.length, [[m.role, m.text, m.images] for m in d.messages], [None] * 5])
        for d in dialogues
    )
    data = Dataset("x", Path(), tuple(dialogues))
    assert data.digest == hashlib.sha256("\n".join(rows).encode()).hexdigest()
