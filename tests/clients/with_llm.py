"""What the command `llm` gets, which reads the address of an endpoint from a file."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

PICTURE, QUESTION, TOOL_QUESTION = (os.environ[name] for name in ("PICTURE", "QUESTION", "TOOL_QUESTION"))
BLOCKED = json.loads(os.environ["BLOCKED"])
HERE = Path.cwd()
MODEL = """
- model_id: {name}
  model_name: {name}
  api_base: {url}
  vision: true
  supports_tools: true
"""
FUNCTION = 'def opening_hours(day: str) -> str:\n    "The hours of a day."\n    return "nine to five"\n'


def llm(*words: str, status: int = 0) -> str:
    done = subprocess.run(
        [Path(sys.executable).with_name("llm"), *words],
        env=os.environ | {"LLM_USER_PATH": str(HERE / "llm")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return (done.stderr if status else done.stdout).strip()


(HERE / "llm").mkdir()
url = os.environ["OPENAI_BASE_URL"]
models = [MODEL.format(name=name, url=url) for name in ("demo", "nobody")]
(HERE / "llm" / "extra-openai-models.yaml").write_text("".join(models))
(HERE / "picture.png").write_bytes(base64.b64decode(PICTURE.partition(",")[2]))
(HERE / "tools.py").write_text(FUNCTION)

got = {"streamed": llm("-m", "demo", QUESTION), "plain": llm("-m", "demo", "--no-stream", QUESTION)}
got["picture"] = llm("-m", "demo", "-a", "picture.png", QUESTION)
got["final"] = llm("-m", "demo", "--functions", "tools.py", TOOL_QUESTION)
llm("-m", "demo", BLOCKED[0]["content"])
got["blocked, streamed"] = llm("-c", BLOCKED[-1]["content"])
got["blocked"] = llm("-c", "--no-stream", BLOCKED[-1]["content"])
got["unknown"] = [404, llm("-m", "nobody", QUESTION, status=1)]
json.dump(got, sys.stdout)
