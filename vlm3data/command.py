"""How our commands end: a user's mistake in one line, a bug with its traceback. Shared by both programs."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from vlm3data.errors import UsageError, UserError
from vlm3data.progress import progress_bar
from vlm3data.terminal import shown

__all__ = ["Place", "UsageError", "print_json", "progress_bar", "run_app"]

FAILED, BAD_USAGE, INTERRUPTED = 1, 2, 130
STORES = ("botocore.", "aiobotocore.", "gcsfs.", "google.", "azure.", "aiohttp.")
"""Libraries of object stores, whose errors (no credentials, no such bucket) are not all OSErrors."""


def _is_named(_: Any, place: str | None) -> None:
    if place is not None and not place.strip():
        raise ValueError("It must name a file or a directory.")


Place = Annotated[str, Parameter(validator=_is_named)]
"""Where a command writes; empty, as an unset variable of a shell is, would mean the working directory."""


class UnknownFlagError(UsageError):
    """A flag that nobody has: neither the command nor the plugins that it names."""

    def __init__(self, flag: str, who_knows: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown flag --{flag}; {who_knows}: {', '.join(f'--{name}' for name in known) or 'none'}")
        self.flag, self.known = flag, known


def run_app(app: App, arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    app.suppress_keyboard_interrupt = False  # or it would end without a word
    try:
        result = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _refuse(f"{error} (see {app.name[0]} --help)", BAD_USAGE)
    except UnknownFlagError as error:
        return _refuse(f"{error}{_meant(error, app, arguments)}", BAD_USAGE)
    except UsageError as error:
        return _refuse(str(error), BAD_USAGE)
    except UserError as error:
        return _refuse(str(error), FAILED)
    except OSError as error:  # a full disk, a file where a directory should be, no permission: not our bug
        return _refuse(_said_of(error), FAILED)
    except Exception as error:
        if not type(error).__module__.startswith(STORES):
            raise  # ours: with its traceback
        return _refuse(f"the store refused: {type(error).__name__}: {error}", FAILED)
    except KeyboardInterrupt:
        return _refuse("stopped; the same command again goes on where it was", INTERRUPTED)
    return result if isinstance(result, int) else 0


def print_json(value: Any) -> None:
    """Print `value` for another program to read."""
    import orjson

    print(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode())


def _meant(error: UnknownFlagError, app: App, arguments: Sequence[str] | None) -> str:
    """Return which flag may have been meant, the command's own among them."""
    command = app.parse_commands(arguments)[1][-1]
    own = [name.replace("_", "-") for name in inspect.signature(command.default_command or run_app).parameters]
    near = difflib.get_close_matches(error.flag, [*error.known, *own], n=1)
    return f"; did you mean --{near[0]}?" if near else ""


def _said_of(error: OSError) -> str:
    """Return in words what went wrong with which file; files are written under another name beside their own."""
    where = error.filename2 or error.filename
    if not where or not error.strerror:
        return f"{type(error).__name__}: {error}"
    name = re.sub(r"\.[0-9a-f]{8}\.tmp$", "", str(where))
    hint = (
        " (is there the directory it should be in?)" if isinstance(error, FileNotFoundError) and name != where else ""
    )
    return f"{name}: {error.strerror}{hint}"


def _refuse(message: str, code: int) -> int:
    print(f"error: {shown(' '.join(message.split()))}", file=sys.stderr)
    return code
