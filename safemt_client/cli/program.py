"""One command: its arguments, its exit status, and the one line for what goes wrong."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from safemt_client.cli.parser import COMMANDS, make_parser, with_command
from safemt_client.cli.parsing import did_you_mean, unknown_options
from safemt_client.cli.starting import INTERRUPTED, starting
from safemt_client.providers.errors import InputError, SafemtError
from safemt_client.providers.resources import shortage
from safemt_client.results.sanitize import plain

__all__ = ["run"]

_LONGEST_LINE = 2_000
_DUCKDB_INTERRUPTED = "Query interrupted"
"""What DuckDB makes of a KeyboardInterrupt, as a RuntimeError."""


def run(argv: Sequence[str] | None) -> int:
    """Run one command; return its exit status."""
    given = sys.argv[1:] if argv is None else argv
    words = with_command(given)
    with starting():
        if not words:
            print("safemt: nothing to do: try --provider demo, or --help", file=sys.stderr)
            return 2
        if words[0] != given[0] and not given[0].startswith("-"):
            make_parser().error(f"{given[0]}: no such command{did_you_mean(given[0], COMMANDS)}")
        parser = make_parser(words)
        arguments, unknown = parser.parse_known_args(words)
    if unknown:
        (commands,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
        used = commands.choices[arguments.command]
        used.error(unknown_options(used, unknown))
    try:
        return COMMANDS[arguments.command].run(arguments)
    except InputError as error:
        _say(error)
        return 2
    except SafemtError as error:
        _say(error)
        return 1
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has gone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - shown without the keys that it may quote
        why = shortage(error)
        if str(error) == _DUCKDB_INTERRUPTED:
            print(INTERRUPTED, file=sys.stderr)
        elif why is None:
            _show_trace(error)
        else:
            _say(f"{why}; what is in the store is kept, and the same command goes on from there")
        return 1


def _say(error: Exception | str) -> None:
    # It may quote an endpoint or a file: print it on one line of readable length.
    text = plain(str(error))
    print(f"safemt: {text if len(text) <= _LONGEST_LINE else text[:_LONGEST_LINE] + ' ...'}", file=sys.stderr)


def _show_trace(error: Exception) -> None:
    """The traceback, without the keys that an exception may quote, as from the address of a request."""
    import traceback

    from safemt_client.providers.keys import secrets_of
    from safemt_client.results.sanitize import without_secrets

    text = secrets_of(os.environ).text("".join(traceback.format_exception(error)))
    print(without_secrets(text), file=sys.stderr, end="")
