"""Coverage-guided fuzzing of what endpoints and data sets send: `make fuzz` (the `fuzz` extra, CPython 3.11 to 3.13).

python tests/fuzz/fuzz.py responses|records [-max_total_time=300] [CORPUS]
"""

import contextlib
import sys

import atheris

with atheris.instrument_imports(include=["safemt_client"]):
    from safemt_client.datasets.model import Oddity
    from safemt_client.datasets.records import read_record
    from safemt_client.providers.errors import InputError
    from safemt_client.providers.json_codec import loads
    from safemt_client.providers.responses.outcomes import classify_response


def responses(data: bytes) -> None:
    """Status and Retry-After are made of the first bytes, the rest is the body."""
    status = (200, 400, 403, 429, 500)[data[0] % 5] if data else 200
    reply = classify_response(status, {"retry-after": data[1:12].decode("latin-1")}, data[12:])
    assert len((reply.error or "").splitlines()) <= 1


def records(data: bytes) -> None:
    """A line of a file."""
    try:
        record = loads(data)
    except ValueError:
        return
    oddities: list[Oddity] = []
    with contextlib.suppress(InputError):
        read_record(record, "a: line 1", oddities)


if __name__ == "__main__":
    target = {"responses": responses, "records": records}[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
