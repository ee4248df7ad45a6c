"""How every command of luab_jax starts and ends: its own flags, one clear message, an exit code.

A command is a module with a `Command` and a `main(argv)`. Flags belong to the command, not to absl's global set, so all
commands can be imported in one process and called in it one after the other; absl's own (--verbosity) still work.
"""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from absl import flags, logging

from luab_jax.errors import ExitCode, UsageError, UserError, WorkerLostError, options_are_flags
from luab_jax.io import retries
from luab_jax.io.home import with_home
from luab_jax.io.stdout import quiet_when_unread

_INDENT = " " * 6
_HELP = ("--help", "-h", "-help", "--helpfull", "--helpshort")


@dataclass(frozen=True, slots=True)
class Arguments:
    """What stands on a command line beside the flags."""

    names: tuple[str, ...] = ()
    """What has no dash."""
    overrides: tuple[str, ...] = ()
    """`--config.FIELD=VALUE`, for `config.flags.load_config`."""


@dataclass(frozen=True, slots=True, eq=False)
class Command:
    """The flags of a command, and what --help says of it."""

    name: str
    """As it is started: `python -m luab_jax.evaluate`."""
    summary: str
    """What it does, in two lines."""
    examples: tuple[str, ...]
    """What follows the name."""
    takes_names: bool = False
    takes_config: bool = False
    required: tuple[str, ...] = ()
    """Options that the command asks for itself, for --help; of the others absl knows which must be given."""
    lists: Callable[[], str] | None = None
    """Values that flags may have, for the end of --help; called only then, since it may load jax."""
    flags: flags.FlagValues = field(default_factory=flags.FlagValues)

    def run(self, act: Callable[[Arguments], ExitCode], argv: Sequence[str] | None = None) -> ExitCode:
        """Parses the flags and calls `act`. `argv` is what follows the name; None takes the process's own.

        A `UserError` is one line on stderr; other errors keep their traceback.
        """
        argv = sys.argv[1:] if argv is None else [str(argument) for argument in argv]
        retries.forget()  # of a command that this process ran before
        try:
            if any(argument in _HELP for argument in argv):
                print(self.help())
                return ExitCode.DONE
            arguments = self._parse(argv)
            with retries.told(), _sigterm_interrupts(), options_are_flags([*self.name.split(), *argv]):
                return act(arguments)
        except UsageError as e:
            print(f"error: {e}\n(--help lists the options)", file=sys.stderr)
            return ExitCode.USAGE
        except WorkerLostError as e:
            print(f"error: {e}", file=sys.stderr)
            return ExitCode.STOPPED_RESUMABLE
        except UserError as e:
            print(f"error: {e}", file=sys.stderr)
            return ExitCode.FAILED
        except KeyboardInterrupt:
            print("interrupted; the same command continues from what was saved", file=sys.stderr)
            return ExitCode.STOPPED_RESUMABLE

    def _parse(self, argv: Sequence[str]) -> Arguments:
        overrides: list[str] = []
        self.flags.unparse_flags()  # of a call before this one
        try:
            left = self.flags.read_flags_from_files([self.name, *argv], force_gnu=False)
            left = list(map(with_home, left))
            if self.takes_config:
                from luab_jax.config.flags import split_overrides  # needs the config, which other commands do not

                left, overrides = split_overrides(left)
            left = self.flags(left, known_only=True)
            left = _parse_absl(left)
        except flags.Error as e:
            missing = re.search(r"Flag --(\w+) must have a value other than None", str(e))
            raise UsageError(f"--{missing[1]}=... is missing" if missing else str(e)) from e
        names = left[1:]
        if names and not self.takes_names:
            raise UsageError(f"unexpected argument {names[0]!r}; options are written --name=value")
        return Arguments(tuple(names), tuple(overrides))

    def help(self) -> str:
        """What --help prints."""
        own = [self.flags[name] for name in self.flags if self.flags[name].name == name]
        options = [_option(flag, required=flag.name in self.required or _must_be_given(flag)) for flag in own]
        if self.takes_config:
            options.append(
                "  --config.FIELD=VALUE\n      Any field of the config; --print_config of luab_jax.main lists them."
            )
        examples = [f"  {self.name} {example}" for example in self.examples]
        parts = [self.summary, "\n".join(["Examples:", *examples]), "\n".join(["Options:", *options])]
        return "\n\n".join(parts + ([self.lists()] if self.lists else []))


def _must_be_given(flag: flags.Flag) -> bool:
    """Whether it was defined with `required=True`, of which absl keeps a validator."""
    return any(f"Flag --{flag.name} must have a value" in validator.message for validator in flag.validators)


def _option(flag: flags.Flag, *, required: bool) -> str:
    kind = f", --no{flag.name}" if flag.boolean else f"={_values(flag)}"
    default = str(bool(flag.default)).lower() if flag.boolean else (flag.default_as_str or "").strip("'")
    text, _, _ = " ".join((flag.help or "").split()).partition("; repeat this option")
    text = re.sub(r"^<[^>]*>: ", "", text)  # absl's choices, which stand behind the name
    ending = "Required." if required else f"Default:\xa0{default if default not in ('', '[]') else 'none'}."
    text = f"{text} {ending}"  # a default is not to be broken from its value
    wrapped = textwrap.fill(text, 100, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False)
    wrapped = wrapped.replace("\xa0", " ")
    return f"  --{flag.name}{kind}\n{wrapped}"


def _values(flag: flags.Flag) -> str:
    choices = getattr(flag.parser, "enum_values", None) or getattr(flag.parser, "enum_class", None)
    if choices is not None:
        return "|".join(str(getattr(choice, "value", choice)) for choice in choices)
    kind = flag.flag_type()
    if "multi" in kind:
        return "TEXT (may be repeated)"
    return {"string": "TEXT", "int": "NUMBER", "float": "NUMBER"}.get(kind, "A,B,C")


def _parse_absl(argv: list[str]) -> list[str]:
    """Takes absl's own flags, and those of libraries; what is left are arguments."""
    first = not flags.FLAGS.is_parsed()
    left = flags.FLAGS(argv)
    if first and not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # Orbax tells a page of details per checkpoint
    return left


tell_repeated_requests = retries.tell
"""For commands that print an error and go on to another exit code."""


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """A scheduler's request to stop ends a command as Ctrl-C does; training has a handler of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def run_program(main: Callable[[], Any]) -> NoReturn:
    """Runs the `main` of a module that was started by itself, and exits with its code."""
    logging.use_absl_handler()
    with quiet_when_unread():
        sys.exit(int(main()))


def usage(message: str) -> NoReturn:
    """Ends a command as wrongly used."""
    raise UsageError(message)
