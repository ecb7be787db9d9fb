"""Keys: where they come from, and that nothing that is kept or shown holds them."""

import base64
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safemt_client.providers import keys
from safemt_client.providers.errors import InputError
from safemt_client.providers.keys import Key, Redactor, clear_text_warning, find_key, is_loopback
from safemt_client.providers.registry import resolve
from safemt_client.providers.types import Outcome, Reply

SECRET = "sk-planted/42+key=="
NAME = "OPENAI_API_KEY"


def file_of(path: Path, content: bytes = SECRET.encode() + b"\n", mode: int = 0o600) -> dict[str, str]:
    path.write_bytes(content)
    path.chmod(mode)
    return {f"{NAME}_FILE": str(path)}


def test_the_variable_comes_first_then_the_file(tmp_path: Path) -> None:
    named = file_of(tmp_path / "key")
    assert find_key(NAME, named | {NAME: " sk-of-the-variable "}) == "sk-of-the-variable"
    assert find_key(NAME, named | {NAME: ""}) == SECRET
    assert find_key(NAME, {}) is None
    (tmp_path / "link").symlink_to(tmp_path / "key")
    assert find_key(NAME, {f"{NAME}_FILE": str(tmp_path / "link")}) == SECRET


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o602, 0o644, 0o660])
def test_a_file_that_others_can_read_is_refused(mode: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="others can read it: chmod 600") as caught:
        find_key(NAME, file_of(tmp_path / "key", mode=mode))
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b" \n", b"two words", b"two\nlines", b"nul\0", "ключ".encode(), b"\xff", b"x" * 70_000]
)
def test_a_file_without_a_key_is_one_line(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        find_key(NAME, file_of(tmp_path / "key", content))
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in (tmp_path, tmp_path / "none", tmp_path / "pipe", "a\0b", "x" * 5000):
        with pytest.raises(InputError) as caught:
            find_key(NAME, {f"{NAME}_FILE": str(name)})
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel", "a\tb"])
def test_a_variable_that_is_no_key_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(InputError, match=NAME) as caught:
        find_key(NAME, {NAME: key})
    assert key not in str(caught.value)


def test_the_keyring_is_asked_only_when_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def get_password(service: str, user: str) -> str | None:
        asked.append((service, user))
        return SECRET if user == NAME else None

    monkeypatch.setitem(sys.modules, "keyring", SimpleNamespace(get_password=get_password))
    assert find_key(NAME, {}) is None
    assert asked == []
    on = {"SAFEMT_KEYRING": "1"}
    assert find_key(NAME, on) == SECRET
    assert find_key("SAFEMT_API_KEY", on) is None
    assert asked == [("safemt", NAME), ("safemt", "SAFEMT_API_KEY")]
    assert resolve("gpt-4o", None, on).api_key == SECRET
    assert find_key(NAME, on | {NAME: "sk-other-key"}) == "sk-other-key"

    def fails(service: str, user: str) -> str:
        raise RuntimeError(f"locked {SECRET}")

    monkeypatch.setitem(sys.modules, "keyring", SimpleNamespace(get_password=fails))
    with pytest.raises(InputError, match="the keyring failed") as caught:
        find_key(NAME, on)
    assert SECRET not in str(caught.value)
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(InputError, match=r"safemt-client\[keyring\]"):
        find_key(NAME, on)


def test_no_repr_shows_a_key() -> None:
    env = {
        NAME: SECRET,
        "SAFEMT_API_KEY": SECRET,
        "ANTHROPIC_API_KEY": SECRET,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    for name in ("gpt-4o", "m@http://127.0.0.1:1/v1", "claude-x", "bedrock/x"):
        spec = resolve(name, None, env)
        assert "planted" not in repr(spec)
        assert "planted" not in repr([vars(spec), spec.api_key, spec.secrets])
    assert f"Bearer {Key(SECRET)}" == f"Bearer {SECRET}"
    assert "planted" not in repr(Redactor(SECRET))


def spellings(secret: str) -> list[str]:
    found = [secret, quote(secret, safe=""), json.dumps(secret)[1:-1], secret.encode().hex()]
    for before in ("", "Bearer ", "user:", ":"):
        for after in ("", "\n", "more"):
            code = base64.b64encode(f"{before}{secret}{after}".encode()).decode()
            found += [code, code.replace("+", "-").replace("/", "_"), quote(code, safe="")]
    return found


@pytest.mark.parametrize("spelt", spellings(SECRET))
def test_a_key_that_comes_back_spelt_otherwise(spelt: str) -> None:
    redactor = Redactor(SECRET)
    for text in (redactor.text(f"a {spelt} b"), redactor.body(f"a {spelt} b".encode()).decode()):
        assert "[key]" in text
        assert text.startswith("a ")
        assert text.endswith(" b")
        left = text[2:-2].replace("[key]", "")
        # Of base64 a few letters may stay, which hold bits of what stands beside the key too.
        assert "planted" not in left
        assert len(left) <= 24


@given(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=60),
    st.binary(),
    st.binary(),
)
def test_no_key_survives_in_base64(secret: str, before: bytes, after: bytes) -> None:
    code = base64.b64encode(before + secret.encode() + after).decode()
    left = Redactor(secret).text(code)
    # What is left decodes to less than the key.
    assert len(code) - len(left.replace("[key]", "")) >= len(secret)


def test_escapes_of_json_do_not_hide_a_key() -> None:
    redactor = Redactor(SECRET)
    escaped = "".join(f"\\u{ord(character):04x}" for character in SECRET)
    slashed = SECRET.replace("/", "\\/")
    for spelt in (escaped, slashed):
        body = redactor.body(f'{{"text": "a {spelt} b"}}'.encode())
        assert json.loads(body) == {"text": "a [key] b"}
    # Not JSON: left as it is, but for the key.
    assert redactor.body(b'\\u00 {"' + SECRET.encode()) == b'\\u00 {"[key]'


def test_every_text_of_a_reply() -> None:
    reply = Reply(
        Outcome.ANSWERED,
        text=SECRET,
        reasoning=f"x{SECRET}",
        finish_reason=SECRET,
        error=SECRET,
        resolved_model=SECRET,
        response_id=SECRET,
        raw=SECRET,
    )
    assert "planted" not in repr(Redactor(SECRET).reply(reply))
    clean = Reply(Outcome.ANSWERED, text="hello", raw="{}")
    assert Redactor(SECRET).reply(clean) is clean


def test_placeholders_are_no_secrets() -> None:
    assert Redactor("EMPTY", None, "").text("EMPTY") == "EMPTY"


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        *(("127.0.0.1", True), ("127.9.9.9", True), ("localhost", True), ("::1", True), ("[::1]", True)),
        *(("10.0.0.1", False), ("localhost.example.com", False), ("127.0.0.1.example.com", False)),
    ],
)
def test_loopback(host: str, is_it: bool) -> None:
    assert is_loopback(host) is is_it


def test_plain_http_to_elsewhere_is_said_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_warned", set())
    for url in (
        None,
        "",
        "https://a.example/v1",
        "http://127.0.0.1:1/v1",
        "http://localhost/v1",
        "http://[::1]/v1",
    ):
        clear_text_warning(url)
    assert capsys.readouterr().err == ""
    for _ in range(2):
        clear_text_warning("http://a.example:8000/v1")
    clear_text_warning("http://a.example/other")
    clear_text_warning("http://[")
    err = capsys.readouterr().err
    assert err.splitlines() == ["safemt: a.example is reached over http: keys and texts are sent unencrypted"]
