"""A model that vLLM serves, without a GPU, as a guard: its form holds whatever the weights say."""

import os
import subprocess
from pathlib import Path

import pytest
from support.program import ROOT, at_once, sql

INTERPRETER = Path(os.environ.get("VLLM_PYTHON") or ROOT / ".venv-vllm" / "bin" / "python")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not INTERPRETER.exists(), reason="no vLLM: make .venv-vllm/.installed (3.4 GB)"),
    pytest.mark.usefixtures("here"),
]


def test_a_guard_on_vllm_is_held_to_its_form(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # torch is in the interpreter that has vLLM.
    subprocess.run([INTERPRETER, Path(__file__).with_name("random_model.py"), "model"], check=True)
    # What a CPU needs; another server's port must not be taken for ours.
    for name, value in (("VLLM_CPU_KVCACHE_SPACE", "1"), ("VLLM_PORT", "1"), ("OMP_NUM_THREADS", "1")):
        monkeypatch.setenv(name, value)
    words = ["--provider", "demo", "--judge", "none", "--turns", "1", "--limit", "2", "--images", "off"]
    words += ["--moderator", "llama-guard-3+output=vllm:model", "--serve-python", str(INTERPRETER)]
    words += ["--serve-option", "max-model-len=2048", "--serve-option", "enforce-eager=true"]
    words += ["--attempt-timeout", "300", "--min-coverage", "0"]
    done = at_once(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = sql("SELECT verdict, error FROM assessments", capsys)
    assert rows
    assert all(row["verdict"] in ("safe", "unsafe") and row["error"] is None for row in rows), rows
