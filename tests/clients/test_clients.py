"""Other programs with the proxy, each as its users set it up: the official clients, llm, litellm, inspect_ai.

Each runs in an environment of its own, which `make test-slow` installs, and prints what it got under the same names.
"""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow
from support.proxied import DEMO_REFUSAL, REFUSAL, UNSAFE

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CLIENTS = Path(os.environ.get("CLIENTS_PYTHON", ROOT / ".venv-clients" / "bin" / "python"))
INSPECT = Path(os.environ.get("INSPECT_PYTHON", ROOT / ".venv-inspect" / "bin" / "python"))
LITELLM, NODE = CLIENTS.parents[1] / "litellm" / "bin" / "python", CLIENTS.parents[1] / "node_modules"

QUESTION, TOOL_QUESTION = "Tell me of bread.", "What are the opening hours?"
TOOL = {
    "type": "function",
    "function": {
        "name": "opening_hours",
        "description": "The hours of a day.",
        "parameters": {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]},
    },
}

pytestmark = pytest.mark.slow


def picture() -> str:
    out = io.BytesIO()
    Pillow.new("RGB", (8, 8), (200, 100, 50)).save(out, "PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The proxy in front of the demo, from the command line; gives its address."""
    words = ["moderate", "--upstream", "demo", "--moderator", "demo-guard+block+output", "--port", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "safemt_client", *words, "--log", "decisions.jsonl"],
        cwd=tmp_path_factory.mktemp("proxy"),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[0]
        finally:
            process.terminate()


def run(command: list[str | Path], address: str, folder: Path) -> dict[str, Any]:
    """What a client prints that is set up by environment variables."""
    clean = {
        name: value for name, value in os.environ.items() if not re.match("PYTHONPATH|OPENAI_|LLM_", name)
    }
    given = {
        "OPENAI_BASE_URL": address,
        "OPENAI_API_KEY": "none",
        # Its list of prices is then not fetched.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "PICTURE": picture(),
        "QUESTION": QUESTION,
        "TOOL_QUESTION": TOOL_QUESTION,
        "TOOL": json.dumps(TOOL),
        "BLOCKED": json.dumps(UNSAFE),
    }
    done = subprocess.run(
        command, cwd=folder, env=clean | given, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def check(got: dict[str, Any], *names: str) -> None:
    """That a client got all of these, each as it should be."""
    unknown, responses = got.pop("unknown"), got.pop("responses", None)
    assert unknown[0] == 404
    assert "there is no model 'nobody'" in unknown[1]
    if responses is not None:
        assert responses[0] == 404
        assert "from the Responses API to chat completions" in responses[1]
    assert "demo-guard" in got.pop("models", ["demo-guard"])
    wanted = {
        "model": "demo",
        "plain": DEMO_REFUSAL,
        "streamed": DEMO_REFUSAL,
        "usage": len(f"{QUESTION} {DEMO_REFUSAL}".split()),
        "picture": DEMO_REFUSAL,
        "tool": ["opening_hours", {"day": TOOL_QUESTION}],
        "final": "The tool says: nine to five",
        "blocked": REFUSAL,
        "blocked, streamed": REFUSAL,
        "azure": DEMO_REFUSAL,
        "finish": "content_filter",
    }
    assert got == {name: wanted[name] for name in names}


WHOLE = ("plain", "picture", "final", "blocked")
STREAMED = ("streamed", "blocked, streamed")


@pytest.mark.parametrize(
    ("python", "script", "names"),
    [
        (CLIENTS, "with_openai.py", (*WHOLE, *STREAMED, "tool", "usage", "model", "azure")),
        (CLIENTS, "with_llm.py", (*WHOLE, *STREAMED)),
        (LITELLM, "with_litellm.py", (*WHOLE, *STREAMED, "tool", "usage", "azure")),
        (INSPECT, "with_inspect.py", (*WHOLE, "tool", "finish")),
    ],
    ids=["openai", "llm", "litellm", "inspect_ai"],
)
def test_a_client(python: Path, script: str, names: tuple[str, ...], proxy: str, tmp_path: Path) -> None:
    if not python.exists():
        pytest.fail(f"{python} is not here: make .venv-clients/.installed .venv-inspect/.installed")
    check(run([python, HERE / script], proxy, tmp_path), *names)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not here")
def test_the_official_client_for_javascript(proxy: str, tmp_path: Path) -> None:
    if not NODE.exists():
        pytest.fail(f"{NODE} is not here: make .venv-clients/.installed, with npm")
    (tmp_path / "node_modules").symlink_to(NODE)
    shutil.copy(HERE / "with_openai.mjs", tmp_path)
    got = run(["node", "with_openai.mjs"], proxy, tmp_path)
    check(got, *WHOLE, *STREAMED, "tool", "usage", "model", "azure")
