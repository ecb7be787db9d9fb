"""Moderators that cannot be: one line, status 2."""

from pathlib import Path

import pytest

from safemt_client.__main__ import main

BAD_TEMPLATE = 'prompt = "no place for it"\n[answer]\nform = "json"\n'
BAD_POLICIES = '[policies]\n"Satire" = "x"\n'


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--moderator nobody", "nobody: there is no such guard; the known ones are"),
        ("--moderator llm", "say where it runs"),
        ("--moderator llama-guard-4+block", "say where it runs"),
        ("--moderator demo-guard+blck", "GUARD+INTERVENTION=PROVIDER"),
        ("--moderator demo-guard+", "GUARD+INTERVENTION=PROVIDER"),
        ("--moderator =demo", "GUARD+INTERVENTION=PROVIDER"),
        ("--moderator none+block", "there is no such guard"),
        ("--moderator none --moderator none", "two of them are identical"),
        ("--moderator demo-guard --moderator demo-guard+policy", "two of them are identical"),
        (
            "--moderator demo-guard+block+output --moderator demo-guard+output+block",
            "two of them are identical",
        ),
        ("--moderator llm=nobody/x", "not known"),
        ("--moderator llm=m@http://", "MODEL@http"),
        ("--moderator llm=m@http://u:p@127.0.0.1:1/v1", "leave the password out"),
        ("--moderator openai-moderation", "OPENAI_API_KEY"),
        ("--moderator chatshield+output=demo-guard", "does not assess replies"),
        ("--moderator shieldgemma-2+policy+output=demo-guard", "does not assess replies"),
        ("--batch --moderator demo-guard", "--batch: a moderator"),
        ("--moderator demo-guard --guard-option x", "write NAME=VALUE"),
        ("--moderator demo-guard --guard-option generation=4.1", "no guard of this run has this option"),
        ("--moderator granite-guardian=demo-guard --guard-option generation=9", "write one of 3.2"),
        ("--moderator demo-guard --guard-template none.toml", "none.toml: cannot be read"),
        ("--moderator demo-guard --guard-template bad.toml", "must contain {conversation}"),
        ("--moderator demo-guard --policies none.toml", "none.toml: cannot be read"),
        ("--moderator demo-guard --policies bad-policies.toml", "needs a string named general"),
        ("--moderator demo-guard --on-guard-error ignore", "--on-guard-error"),
        ("--moderator demo-guard --policy-place middle", "--policy-place"),
        ("--moderator llm=g@http://127.0.0.1:9/v1 --max-cost 1", "the price of g@http"),
        ("--moderator demo-guard --price other=1/1", "--price other: no such model"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    words: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    Path("bad.toml").write_text(BAD_TEMPLATE)
    Path("bad-policies.toml").write_text(BAD_POLICIES)
    try:
        status = main(["--provider", "demo", "--limit", "1", *words.split()])
    except SystemExit as error:  # argparse's own
        status = int(error.code or 0)
        assert said in capsys.readouterr().err
        assert status == 2
        return
    found = capsys.readouterr()
    assert status == 2, found.out
    assert said in found.err
    assert len(found.err.strip().splitlines()) == 1
