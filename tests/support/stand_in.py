"""A stand-in for the server of an engine: `python -S stand_in.py PORT [WORD ...]`, with the standard library alone.

It lists the model `stand-in` and answers chats, with the key of `STAND_IN_KEY`, and misbehaves by its words:

    wait=FILE     does not listen before the file is there
    fail          prints a few lines, and ends with status 3
    once=FILE     fails if the file is there, else makes it
    die=N         kills itself at the Nth chat, and says so; with `mortal=FILE` only if the file is there, which it removes
    child         starts a process that ignores SIGTERM, in its own group; `child=apart` in a session of its own,
                  `child=both` one of each
    stubborn      ignores SIGTERM itself
    keyless       takes every request
    tell          prints its key, in pieces
    env=NAME      prints that variable of its environment
    model=NAME    lists that model
    key=NAME      takes its key from that variable
    log=FILE      adds a line to the file for each chat: what was said last
    sessions=FILE adds a line to the file for each chat: the id of its conversation
    says=TEXT     answers so
    hang          never answers
    deaf          heeds no grammar
"""

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL = "stand-in"
IGNORES = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('child', flush=True); time.sleep(600)"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    left = -1
    key: str | None = None
    model = MODEL
    log: Path | None = None
    sessions: Path | None = None
    says = "Tea."
    hangs = deaf = False

    def do_GET(self) -> None:
        if self.path == "/metrics":
            said = b"llamacpp:prompt_tokens_total 30\nllamacpp:prompt_tokens_cached_total 10\n"
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)
            return
        self.answer({"data": [{"id": self.model}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body and Handler.left > 0:
            Handler.left -= 1
            if not Handler.left:
                say("RuntimeError: the kettle is empty")
                os.kill(os.getpid(), signal.SIGKILL)
        # The first request of the program allows this word alone.
        first = '"kite"' in str(body.get("structured_outputs")) and not self.deaf
        if body and not first and self.log is not None:
            with self.log.open("a") as file:
                print(body["messages"][-1]["content"].replace("\n", " "), file=file)
        if body and not first and self.sessions is not None:
            with self.sessions.open("a") as file:
                print(self.headers["X-Session-ID"], file=file)
        while body and not first and self.hangs:
            time.sleep(0.01)
        message = {"role": "assistant", "content": "kite" if first else self.says}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        self.answer({"model": self.model, "choices": choices} if body else None)

    def answer(self, content: object) -> None:
        taken = self.key is None or self.headers["Authorization"] == f"Bearer {self.key}"
        status = 401 if not taken else 400 if content is None else 200
        data = json.dumps(content if status == 200 else {"error": {"message": "no"}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *given: object) -> None:
        say("asked")


def say(line: str) -> None:
    """Print a line in one piece: each connection has a thread, and `print` writes the end of a line by itself."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(port: str, *words: str) -> int:
    said = {name: value for name, _, value in (word.partition("=") for word in words)}
    if "once" in said:
        if Path(said["once"]).exists():
            said["fail"] = ""
        Path(said["once"]).touch()
    if "fail" in said:
        print("loading\nRuntimeError: too \x1b[31mlittle\x1b[0m memory\nbye", flush=True)
        return 3
    if "tell" in said:
        # A line longer than is kept back, in pieces that cut the key in two.
        for piece in (
            "x" * 100_000,
            *(key := os.environ["STAND_IN_KEY"]).partition(key[9]),
            "y" * 100_000,
            key,
        ):
            sys.stdout.write(piece)
            sys.stdout.flush()
    if "env" in said:
        print(said["env"], "=", os.environ.get(said["env"]), flush=True)
    for apart in {"": [False], "apart": [True], "both": [False, True]}.get(said.get("child", "none"), []):
        child = subprocess.Popen(
            [sys.executable, "-S", "-c", IGNORES], stdout=subprocess.PIPE, start_new_session=apart
        )
        assert child.stdout is not None
        child.stdout.readline()
    if "stubborn" in said:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Handler.key = None if "keyless" in said else os.environ[said.get("key", "STAND_IN_KEY")]
    Handler.model = said.get("model", MODEL)
    Handler.log = Path(said["log"]) if "log" in said else None
    Handler.sessions = Path(said["sessions"]) if "sessions" in said else None
    Handler.says, Handler.hangs, Handler.deaf = said.get("says", "Tea."), "hang" in said, "deaf" in said
    if "mortal" not in said or Path(said["mortal"]).exists():
        Handler.left = int(said.get("die", "-1"))
        Path(said.get("mortal", "-")).unlink(missing_ok=True)
    while "wait" in said and not Path(said["wait"]).exists():
        time.sleep(0.01)
    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
