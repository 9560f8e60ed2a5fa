"""Reference pages as Markdown, read off the settings, the command line, the features and the template variables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from types import UnionType
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

MADE: Final = "<!-- Made by `python -m retain.documents` from {source}; change it there. -->\n"
"""The first line of every page."""

_SETTINGS: Final = """\
# Settings

A setting comes from, in this order: a flag of the command, an environment variable, `retain.toml` in the workspace,
the default. Amounts are written `0.05 EUR`, shares `5%`, durations `3 days`, clock times `21:00`: in `retain.toml` all
of them in quotes. Every mistake is told at once, with its line.

The workspace itself is named by `--workspace`, else by `RETAIN_WORKSPACE`, else it is the working directory. Secrets do
not belong in `retain.toml`: set `RETAIN_SECRET` in the environment. Without it the workspace's own key is used, which
`retain init` makes in `.retain/key`.

"""
_COMMANDS: Final = """\
# Commands

Exit codes: 0 fine; 1 an error, of the command line too; 2 work to do: `retain plan` found something to apply, or a
launch waits for a second person (`retain apply`, `run`, `approvals`). Results go to standard output, everything else
(progress, warnings, errors) to standard error. With `--json` standard output is exactly one JSON object. `--now` and
`--as-of` take an instant in ISO 8601; one without a zone is in UTC. `--by` says who does it; without it that is the
setting `operator`. `retain --version` tells which retain this is.

"""
_FEATURES: Final = """\
# What a segment may ask

A feature is one fact about a customer as of the instant a campaign runs, made only from what had happened by then.
`retain features` lists them in a workspace, together with your own customer columns, which may be asked in the same
way; `retain features CUSTOMER` shows one customer's values.

A fact that is missing makes every comparison false: `country != 'GB'` leaves out customers without a country. `is None`
and `is not None` ask whether it is missing. You can say `and`, `or`, `not`, `==`, `!=`, `<`, `<=`, `>`, `>=`,
`1.5 <= overdue_ratio < 3`, `country in ('GB', 'IE')`, `+ - * /`, parentheses, and the name of another segment.

"""
_LEGAL_HOURS: Final = """\
# Which hours hold where

In the customer's own time; a channel that no rule of a place names is free there. Rules that may apply together hold
together, and nothing widens them (see [when a message leaves](timing.md)). *Rests on*: `law` a text of law, `carrier`
the rule of a network, `practice` a prudent default where the law names no hours, `summary` somebody's summary of the
law. No legal advice: have your own places checked.

"""
_REASONS: Final = """\
# Reason codes

Why a customer got no message, and what became of one: `retain explain CAMPAIGN CUSTOMER` says these codes with the
rule, the value, the time and the hash of the files; with `--json` every event has `code`, `rule` and `config`.
`retain plan` and `retain status` count by them.

Beside these a message is left out by the conditions of its own step, and then bears the condition as its code:
`open_complaint`, `until not open_complaint`. An attempt may bear the provider's own code (`21610`, `http_503`,
`550 5.1.1`), as the provider's documentation has it.
"""
_VARIABLES: Final = """\
# What a template may say

Templates are written in Jinja: `{{ customer.first_name }}`. Beside these variables every column of your own customers
can be used as `customer.COLUMN`, except the addresses (ADDRESSES), which no template sees.

A variable that may be missing needs something to say instead: `{{ customer.first_name | default('there', true) }}`.
Without it the message of a customer who lacks it fails (`render_failed`); what no customer has holds the campaign.
`retain validate` finds what is missing or misspelt, with file and line; `retain preview CAMPAIGN` shows the result.

"""


def settings_page() -> str:
    """docs/operators/settings.md."""
    from flows.settings import Settings

    lines = ["## At the top of the file", "", *_settings_table(Settings, ())]
    for path, model in _sections(Settings, ()):
        lines += ["", f"## [{'.'.join(path)}]", "", _first_line(model), "", *_settings_table(model, path)]
    for name, field in Settings.model_fields.items():
        for model in _models_in(get_args(field.annotation)) if get_origin(field.annotation) is tuple else ():
            rows = [(f"`{f.alias or key}`", _default(f), f.description or "") for key, f in model.model_fields.items()]
            lines += ["", f"## [[{name}]], once for each", "", _first_line(model), ""]
            lines += _table(("setting", "default", "meaning"), rows)
    return _page("flows/settings.py", _SETTINGS, lines)


def commands_page() -> str:
    """docs/operators/commands.md."""
    from typer.main import get_command

    from retain.cli import app

    commands = _flat(get_command(app).commands)  # type: ignore[attr-defined]  # a group has commands
    lines = [f"- [{name}](#retain-{name.replace(' ', '-')}): {_brief(command)}" for name, command in commands.items()]
    for name, command in commands.items():
        lines += ["", *_command_section(name, command)]
    return _page("the command line (retain/commands)", _COMMANDS, lines)


def _flat(commands: dict[str, Any], before: str = "") -> dict[str, Any]:
    """The commands by their whole name, those of a group ("codes import") one by one."""
    found: dict[str, Any] = {}
    for name, command in commands.items():
        inner = getattr(command, "commands", None)
        found |= {before + name: command} if inner is None else _flat(inner, f"{before}{name} ")
    return found


def features_page() -> str:
    """docs/marketers/features.md."""
    from campaigns.features import FEATURES

    rows = [
        (f"`{f.name}`", f.kind, f.unit, f.definition + _choices(f.values), ", ".join(f.needs))
        for f in FEATURES.values()
    ]
    return _page("campaigns/features.py", _FEATURES, _table(("feature", "kind", "unit", "meaning", "made from"), rows))


def variables_page() -> str:
    """docs/marketers/template-variables.md."""
    from channels.variables import ADDRESS_FIELDS, VARIABLES

    rows = [(f"`{v.name}`", v.meaning, v.example, "yes" if v.optional else "") for v in VARIABLES.values()]
    table = _table(("variable", "meaning", "example", "may be missing"), rows)
    hidden = ", ".join(f"`{name}`" for name in sorted(ADDRESS_FIELDS))
    return _page("channels/variables.py", _VARIABLES.replace("ADDRESSES", hidden), table)


def legal_hours_page() -> str:
    """docs/marketers/legal-hours.md."""
    from campaigns.packs import packs
    from campaigns.words import DAYS

    rows = []
    for name, pack in packs().items():
        for rule in pack.rules:
            days = "every day" if len(rule.days) == len(DAYS) else ", ".join(DAYS[day] for day in sorted(rule.days))
            hours = f"{days} {rule.opens:%H:%M} to {rule.closes:%H:%M}"
            rows.append(
                (f"`{name}`", pack.title, ", ".join(rule.channels), hours, rule.basis, rule.source, rule.read_on)
            )
        if (rest := pack.no_holidays) is not None:
            channels = ", ".join(rest.channels)
            rows.append(
                (f"`{name}`", pack.title, channels, "no public holidays", rest.basis, rest.source, rest.read_on)
            )
    head = ("pack", "where", "channels", "may leave", "rests on", "source", "read on")
    return _page("campaigns/packs", _LEGAL_HOURS, _table(head, rows))


def reasons_page() -> str:
    """docs/operators/reason-codes.md."""
    from flows.steps.reason_codes import STAGES, reason_codes

    lines = []
    for stage, title in STAGES.items():
        rows = [(f"`{reason.code}`", reason.sentence) for reason in reason_codes() if reason.stage == stage]
        lines += ["", f"## {title}", "", *_table(("code", "meaning"), rows)]
    return _page("flows/steps/reason_codes.py", _REASONS, lines)


def _page(source: str, introduction: str, lines: Sequence[str]) -> str:
    return MADE.format(source=source) + introduction + "\n".join(lines) + "\n"


def _sections(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    for name, field in model.model_fields.items():
        inner = _model_of(field)
        if inner is not None:
            here = (*path, field.alias or name)
            if any(_model_of(f) is None for f in inner.model_fields.values()):
                yield here, inner
            yield from _sections(inner, here)


def _settings_table(model: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        if name == "root" or _model_of(field) is not None:
            continue
        key = field.alias or name
        variable = "RETAIN_" + "__".join((*path, key)).upper()
        rows.append((f"`{key}`", f"`{variable}`", _default(field), field.description or ""))
    return _table(("setting", "environment variable", "default", "meaning"), rows)


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    """The section a setting is, or None for a plain value and for a list."""
    kinds = get_args(field.annotation) if isinstance(field.annotation, UnionType) else (field.annotation,)
    return next(iter(_models_in(kinds)), None)


def _models_in(kinds: Sequence[Any]) -> list[type[BaseModel]]:
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _default(field: FieldInfo) -> str:
    value = None if field.is_required() else field.get_default(call_default_factory=True)
    match value:
        case None | "" | SecretStr() | () | {}:
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case float():
            return f"`{value * 100:g}%`"  # all of them are shares
        case timedelta():
            return f"`{_duration(value)}`"
        case tuple():
            return ", ".join(f"`{item}`" for item in value)
        case _:
            return f"`{value}`"


def _duration(value: timedelta) -> str:
    units = {"days": timedelta(days=1), "hours": timedelta(hours=1), "minutes": timedelta(minutes=1)}
    name, unit = next(((n, u) for n, u in units.items() if not value % u), ("seconds", timedelta(seconds=1)))
    return f"{value / unit:g} {name}"


def _command_section(name: str, command: Any) -> list[str]:
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option"]
    usage = " ".join([f"retain {name} [OPTIONS]", *(_usage(param) for param in arguments)])
    lines = [f"## retain {name}", "", f"    {usage}", "", *str(command.help).split("\n")]
    if arguments:
        lines += ["", *_table(("argument", "meaning", "default"), [_param(param) for param in arguments])]
    if options:
        lines += ["", *_table(("option", "meaning", "default"), [_param(param) for param in options])]
    return lines


def _usage(argument: Any) -> str:
    text = argument.metavar + ("..." if argument.nargs == -1 else "")
    return text if argument.required else f"[{text}]"


def _param(param: Any) -> tuple[str, str, str]:
    name = param.metavar if param.param_type_name == "argument" else ", ".join(param.opts)
    if param.param_type_name == "option" and param.metavar:
        name += f" {param.metavar}"
    if isinstance(param.show_default, str):
        default = param.show_default
    else:
        default = "required" if param.required else _plain(param.default)
    return f"`{name}`", param.help, default


def _plain(value: object) -> str:
    return "" if value in (None, False, ()) or value == [] else f"`{value}`"


def _brief(command: Any) -> str:
    return str(command.help).split("\n")[0].rstrip(".").replace("*", r"\*")


def _first_line(model: type[BaseModel]) -> str:
    return str(model.__doc__).strip().split("\n")[0]


def _choices(values: Sequence[str]) -> str:
    return f" One of {', '.join(values)}." if values else ""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join('---' for _ in columns)}|"]
    return lines + [f"| {' | '.join(map(_cell, row))} |" for row in rows]


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
