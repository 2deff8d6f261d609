"""Commands whose code is loaded when they are asked for: loading all of it takes longer than what most of them do.

Until then each stands in the list of commands with what it is for.
"""

from functools import cached_property
from importlib import import_module
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperCommand

from quayflow.usage_examples import end_helps_with_examples


class Place(NamedTuple):
    """Where a command is found, and what it is for."""

    module: str
    """It has a function ``register`` that adds the command to an application."""
    purpose: str
    """What the list of commands says."""


PLACES: Final = {
    "decode": Place("quayflow.decoding", "Print what one message of any format says."),
    "check": Place("quayflow.checking", "Judge what a device sends."),
    "record": Place("quayflow.traffic", "Record what a broker delivers."),
    "replay": Place("quayflow.traffic", "Publish recorded tracks and messages."),
    "load": Place("quayflow.traffic", "Publish at a given rate, and find what limits it."),
    "journal": Place("quayflow.journal_verbs", "Look into the journal of raw frames."),
    "device": Place("quayflow.commanding", "Register devices, give them credentials, see why one is silent."),
    "registry": Place("quayflow.registry_verbs", "Import and export the registry; who changed what."),
}
"""Commands in the order of the list."""


def program(purpose: str) -> typer.Typer:
    """Return an application without commands."""
    return typer.Typer(
        name="quayflow",
        help=purpose,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def register(app: typer.Typer) -> None:
    """Add the commands, without loading them."""
    for name, place in PLACES.items():
        app.command(name, cls=Command, short_help=place.purpose)(_nothing)


def _nothing() -> None:
    """Stand for what is not loaded; it is never run."""


class Command(TyperCommand):
    """A command, or a group of them, that is loaded when its arguments are to be read."""

    @cached_property
    def loaded(self) -> Any:  # noqa: ANN401 - a class of typer that has no public name
        """What it stands for."""
        whole = program("")
        whole.callback()(_nothing)
        import_module(PLACES[self.name or ""].module).register(whole)
        end_helps_with_examples(whole)
        return typer.main.get_command(whole).commands[self.name]  # type: ignore[attr-defined]

    @property
    def commands(self) -> dict[str, Any]:
        """Name → command, of a group; AttributeError of a single command."""
        found: dict[str, Any] = self.loaded.commands
        return found

    def make_context(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - handed on as they are
        """Read the arguments of the command."""
        return self.loaded.make_context(*arguments, **options)

    def make_parser(self, context: Any) -> Any:  # noqa: ANN401 - as above
        """Return what reads the arguments of the command."""
        return self.loaded.make_parser(context)
