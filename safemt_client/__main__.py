"""The command line, `python -m safemt_client` and `safemt`: from arguments to an exit status."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from safemt_client.cli.parser import COMMANDS, make_parser, with_command
from safemt_client.providers.errors import InputError, SafemtError
from safemt_client.providers.resources import shortage
from safemt_client.results.sanitize import plain

__all__ = ["main"]

_LONGEST_LINE = 2_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    words = with_command(sys.argv[1:] if argv is None else argv)
    # Many small objects live long here: the default garbage collection takes a tenth of a run.
    gc.set_threshold(50_000, 20, 20)
    parser = make_parser(words)
    if not words:
        parser.print_usage(sys.stderr)
        print("safemt: nothing to do: try --provider demo, or --help", file=sys.stderr)
        return 2
    arguments = parser.parse_args(words)
    try:
        return COMMANDS[arguments.command].run(arguments)
    except InputError as error:
        _say(error)
        return 2
    except SafemtError as error:
        _say(error)
        return 1
    except KeyboardInterrupt:
        print("safemt: interrupted; the same command resumes", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has gone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        why = shortage(error)
        if why is None:
            raise
        _say(f"{why}; what is in the store is kept, and the same command goes on from there")
        return 1


def _say(error: Exception | str) -> None:
    # It may quote an endpoint or a file: print it on one line of readable length.
    text = plain(str(error))
    print(f"safemt: {text if len(text) <= _LONGEST_LINE else text[:_LONGEST_LINE] + ' ...'}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
