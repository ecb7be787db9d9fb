"""Options of a run end to end: configuration file, another sample, a target that stops, memory."""

import io
import json
import os
import signal
import sys
from pathlib import Path

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from PIL import Image as Pillow
from support.faults import answer, error, serve
from support.forked import forked
from support.program import against, at_once, sql
from support.waiting import until

from safemt_client.__main__ import main

pytestmark = pytest.mark.usefixtures("here")

ROOT = Path(__file__).resolve().parents[2]


def test_a_file_holds_the_settings_and_flags_win(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("night.toml").write_text('provider = "demo"\nturns = [1, 2]\nlimit = 3\nmax-concurrency = 4\n')
    assert main(["--config", "night.toml", "--limit", "2", "--dry-run"]) == 0
    assert "4 calls to make" in capsys.readouterr().out
    Path("night.toml").write_text('provider = "demo"\nturn = [1]\n')
    assert main(["--config", "night.toml"]) == 2
    assert "night.toml: --turn: there is no such setting" in capsys.readouterr().err


def test_limits_of_one_account_come_from_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    table = "[accounts.demo]\nrpm = 60\nmax-concurrency = 2\n"
    Path("night.toml").write_text(f'provider = "demo"\nturns = [1]\nlimit = 3\n{table}')
    assert main(["--config", "night.toml", "--dry-run"]) == 0
    # Three calls and three verdicts at one a second.
    assert "at these limits: at least 6 s" in capsys.readouterr().out
    for name, value, said in (
        ("elsewhere", "rpm = 60", "[accounts.elsewhere]: no model of this run uses it; the run uses demo"),
        ("demo", "rpm = 0", "accounts.demo.rpm 0"),
        ("demo", "rps = 1", "accounts.demo.rps: there is no such setting"),
    ):
        Path("night.toml").write_text(f'provider = "demo"\n[accounts.{name}]\n{value}\n')
        assert main(["--config", "night.toml", "--dry-run"]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert len(err.splitlines()) == 1


def test_fresh_asks_anew_and_then_resumes(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--provider", "demo", "--limit", "2", "--quiet"]
    for again, turns in ((words, 10), ([*words, "--fresh"], 20), (words, 20), ([*words, "--fresh"], 30)):
        assert main(again) == 0
        assert sql("SELECT count(*) AS n FROM turns", capsys) == [{"n": turns}]
    found = sql("SELECT DISTINCT sample FROM run_targets ORDER BY ALL", capsys)
    assert found == [{"sample": 0}, {"sample": 1}, {"sample": 2}]


def test_a_wrong_key_stops_the_target_at_once_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--provider", "m@URL", "--data", "sample", "--judge", "none", "--max-concurrency", "1"]
    status, endpoint = against(
        [answer()] * 3, error(401, "invalid_api_key", "Wrong key sk-planted-42"), *words
    )
    out = Path("out").read_text()
    assert status == 1
    assert len(endpoint.requests) == 4
    assert out.count("authentication failed") == 1
    assert "Traceback" not in out
    assert "continue with" in out
    outcomes = sql("SELECT outcome, count(*) AS n FROM turns GROUP BY ALL ORDER BY ALL", capsys)
    assert outcomes[0] == {"outcome": "answered", "n": 3}
    for file in Path().iterdir():
        assert b"sk-planted-42" not in file.read_bytes(), file
    # With a right key the same command goes on, and pays for nothing twice.
    status, endpoint = against([], answer(), *words)
    assert status == 0
    assert len(endpoint.requests) == 75 - 3


def test_errors_lower_the_coverage_and_are_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--provider", "m@URL", "--data", "sample", "--judge", "m@URL", "--turns", "1", "--max-wait", "0"]
    judge_word = answer("safe")
    status, _ = against([], error(500, message="internal error"), *words)
    assert status == 1
    assert "coverage" in Path("out").read_text()
    assert sql("SELECT DISTINCT state FROM conversations", capsys) == [{"state": "error_transient"}]
    status, endpoint = against([], judge_word, *words)
    assert status == 0
    assert len(endpoint.requests) == 30
    assert sql("SELECT DISTINCT state FROM conversations", capsys) == [{"state": "safe"}]


def test_the_second_ctrl_c_stops_at_once_and_the_store_goes_on() -> None:
    run = forked("--provider", "demo", "--rpm", "30", PYTHONUNBUFFERED="1")
    try:
        until(Path("safemt.duckdb.server").exists, run)
        for line in run.stdout:
            if "calls to make" in line:
                break
        run.send_signal(signal.SIGINT)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=20)
    finally:
        run.kill()
    assert run.returncode == 1, err
    assert "Traceback" not in err
    assert main(["--provider", "demo", "--quiet"]) == 0


@pytest.mark.slow
def test_no_more_images_are_in_memory_than_in_flight(tmp_path: Path) -> None:
    Path("images").mkdir()
    lines = []
    noises = [io.BytesIO() for _ in range(20)]
    for place, noise in enumerate(noises):
        Pillow.effect_noise((450, 450), 100 + 2 * place).save(noise, "png")
    for number in range(400):
        name = f"images/{number}.png"
        # What follows a picture's end is not looked at, and no two files are the same.
        Path(name).write_bytes(noises[number % 20].getvalue() + b"%d" % number)
        dialogue = [{"role": "user", "content": f"kindly look at {number}"}]
        lines.append(json.dumps({"id": f"a_{number}", "image_path": name, "dialogue": dialogue}))
    Path("d.jsonl").write_text("\n".join(lines))
    assert sum(path.stat().st_size for path in Path("images").iterdir()) > 60_000_000
    code = (
        "import resource, sys; from safemt_client.__main__ import main\n"
        "status = main(sys.argv[1:])\n"
        "print(status, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )

    async def both() -> list[int]:
        async with serve([], answer("no")) as endpoint:
            peaks = []
            for db, images in (("off.duckdb", "off"), ("on.duckdb", "on")):
                process = await anyio.run_process(
                    [
                        *(sys.executable, "-c", code, "--provider", f"m@{endpoint.url}", "--data", "d.jsonl"),
                        *(
                            "--db",
                            db,
                            "--images",
                            images,
                            "--judge",
                            "none",
                            "--quiet",
                            "--max-concurrency",
                            "4",
                        ),
                    ],
                    check=False,
                    env=os.environ | {"PYTHONPATH": str(ROOT)},
                )
                status, megabytes = process.stdout.split()[-2:]
                assert status == b"0", process.stdout + process.stderr
                peaks.append(int(megabytes))
                assert len(endpoint.requests[-1].body) > (100_000 if images == "on" else 0)
                endpoint.requests.clear()
            return peaks

    off, on = anyio.run(both)
    # All of them as base64 would take over 80 MB more.
    assert on - off < 45, (off, on)


def test_the_cap_holds_over_resumes_and_a_raised_one_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "--provider m --base-url URL --price m=0/1000000 --max-tokens 1 --data sample --turns 1 --images off"
    )
    words += " --judge none --max-concurrency 4"

    found = []
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve([], answer())) as endpoint,
    ):
        for cap in ("5", "5", "8"):
            done = at_once(*words.replace("URL", endpoint.url).split(), "--max-cost", cap)
            Path(f"out{len(found)}").write_text(done.stdout + done.stderr)
            found.append((done.returncode, len(endpoint.requests)))
    assert found == [(1, 5), (1, 5), (1, 8)]
    assert "--max-cost $5.00 is reached, $5.00 spent: raise it to continue" in Path("out0").read_text()
    assert "spent so far $5.00, to come $10.00, cap $8.00" in Path("out2").read_text()


def test_a_cap_needs_a_price(capsys: pytest.CaptureFixture[str]) -> None:
    url = "http://127.0.0.1:9/v1"
    words = ["--provider", f"m@{url}", "--data", "sample", "--judge", "none", "--max-cost", "1"]
    assert main([*words, "--dry-run"]) == 2
    assert f"the price of m@{url} is not known: add --price m@{url}=INPUT/OUTPUT" in capsys.readouterr().err
    assert main([*words, "--dry-run", "--price", f"m@{url}=0/0"]) == 0
    assert "free" in capsys.readouterr().out
    assert main([*words, "--dry-run", "--price", "other=0/0"]) == 2
    assert "--price other: no such model in this run" in capsys.readouterr().err


@pytest.mark.parametrize("history", ["scripted", "live"])
def test_conversations_that_ask_the_same_share_one_call(
    history: str, capsys: pytest.CaptureFixture[str]
) -> None:
    opening = {"role": "user", "content": "Tell me of gardens."}
    longer = [opening, {"role": "assistant", "content": "Gladly."}, {"role": "user", "content": "Go on."}]
    with Path("data.jsonl").open("w") as file:
        for item in range(6):
            for dialogue in ([opening], longer):
                file.write(json.dumps({"id": f"i_{item}", "scenario": "Satire", "dialogue": dialogue}) + "\n")
    words = [
        "--provider",
        "m@URL",
        "--data",
        "data.jsonl",
        "--judge",
        "none",
        "--quiet",
        "--history",
        history,
    ]
    status, endpoint = against([], answer(), *words)
    assert status == 0, Path("out").read_text()
    # The opening once, and once what follows it, for twelve conversations.
    assert len(endpoint.requests) == 2
    assert sql("SELECT count(*) AS n FROM turns", capsys) == [{"n": 2}]
    ended = sql("SELECT outcome, count(*) AS n FROM final_replies GROUP BY ALL", capsys)
    assert ended == [{"outcome": "answered", "n": 12}]
    assert sql("SELECT count(*) AS n FROM steps", capsys)[0]["n"] == (18 if history == "live" else 12)
    # And there is nothing left to ask.
    status, endpoint = against([], None, *words)
    assert (status, endpoint.requests) == (0, [])
