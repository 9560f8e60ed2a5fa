"""What an operator may set: flag > environment > retain.toml > default; the only reader of the environment."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from campaigns.audience_terms import Caps
from campaigns.timing import Window
from campaigns.units import Amount, Cap, ClockTime, Duration, PositiveDuration, Share, parse_money
from campaigns.words import one_or_more
from flows.provider_settings import USUAL_NAMES, Address, Providers, secrets_in, usual_values

CONFIG_NAME: Final = "retain.toml"
_NOT_HERE: Final = "{}: a secret does not belong in a file; take it out and set {} in the environment"


class SettingsError(Exception):
    """A setting is wrong: says which, where it came from and what was expected."""


OfferKind = Literal["percent_off", "amount_off", "free_shipping", "points", "gift", "bundle", "upgrade", "none"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Holdout(_Section):
    """The global holdout: customers whom no campaign touches."""

    share: Share = Field(default=0.0, description="share of all customers kept out of every campaign")
    salt: str = Field(default="global-holdout", description="changes who is in the holdout; rotate with care")
    rotate: tuple[date, ...] = Field(
        default=(),
        description="days (UTC) on which everybody is drawn anew, such as [2026-07-01, 2027-01-01]; never take one out",
    )

    @field_validator("rotate")
    @classmethod
    def _rotates_forward(cls, days: tuple[date, ...]) -> tuple[date, ...]:
        if any(later <= earlier for earlier, later in pairwise(days)):
            raise ValueError("name the days in order, each once")
        return days

    def rotated_on(self, at: datetime) -> datetime | None:
        """The midnight (UTC) of the last day of rotation up to an instant; None before the first."""
        midnights = (datetime.combine(day, time(0), UTC) for day in self.rotate)
        return max((midnight for midnight in midnights if midnight <= at), default=None)


class CompanyCaps(Caps):
    """How often one customer may be written to by all campaigns together; campaigns can only be stricter."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    topics: Mapping[str, Annotated[tuple[Cap, ...], BeforeValidator(one_or_more)]] = Field(
        default_factory=dict, description='caps by topic, such as {offers = "2 per week"}'
    )

    @model_validator(mode="after")
    def _names_topics(self) -> CompanyCaps:
        if "topic" in (*self.per_customer, *self.min_gap):
            raise ValueError('which topic? write it under topics, such as topics = {offers = "2 per week"}')
        return self


class QuietHours(_Section):
    """Hours of every day in which nothing leaves, in the customer's local time; they may run over midnight."""

    opens: ClockTime = Field(alias="from", description='when they begin, such as "21:00"')
    closes: ClockTime = Field(alias="to", description='when they end, such as "08:00"')


class Policy(_Section):
    """When messages may leave at all, and where a customer without a zone is taken to live."""

    default_time_zone: str | None = Field(
        default=None, description="zone of customers without zone and country; without it they are skipped"
    )
    quiet_hours: QuietHours | None = Field(default=None, description='for example {from = "21:00", to = "08:00"}')
    cool_off: PositiveDuration | None = Field(
        default=None, description="how long a customer whom one campaign took is left alone by every other"
    )

    opt_out_scope: Literal["topic", "channel", "all"] = Field(
        default="channel",
        description="what one click on an unsubscribe link ends: the topic of that message on its channel, the "
        "channel, or everything; STOP by SMS ends the channel, or everything",
    )

    @property
    def quiet_window(self) -> Window | None:
        """The quiet hours as a window of every day."""
        quiet = self.quiet_hours
        return None if quiet is None else Window(frozenset(range(7)), quiet.opens, quiet.closes)


class Company(_Section):
    """What templates may say about the sender."""

    name: str = Field(default="Example Shop", description="the company's name")
    postal_address: str = Field(
        default="1 Example Street, Exampletown", description="the company's postal address; e-mails must carry it"
    )
    website: str = Field(default="https://shop.example.com", description="the company's website")
    unsubscribe_url: str = Field(
        default="https://shop.example.com/unsubscribe",
        description="the page a one-click link leads to; a signed token is added",
    )


class Content(_Section):
    """What the company asks of its messages' words; `retain validate` and every plan check it."""

    brand: str = Field(default="", description="how texts name the sender; without it the company's name")
    link_hosts: tuple[str, ...] = Field(
        default=(), description="hosts that links may lead to, beside the company's own website and unsubscribe page"
    )
    short_links: bool = Field(
        default=False, description="links of SMS to these hosts become short ones of public_url, and clicks are counted"
    )
    max_sms_segments: int = Field(default=3, ge=1, le=10, description="most SMS that one text may be billed as")
    languages: tuple[str, ...] = Field(
        default=(),
        description='languages every template and offer must be written in, such as ["en", "zh"]; '
        "the first is that of templates without a tag",
    )


class Approval(_Section):
    """From what size on a launch needs a second person; without a limit none does."""

    recipients: int | None = Field(default=None, ge=1, description="customers who would be written to")
    cost: Amount | None = Field(default=None, description='cost of sending, such as "500 EUR"')
    discounts: Amount | None = Field(default=None, description='expected cost of the offers, such as "2000 EUR"')
    approvers: tuple[str, ...] = Field(
        default=(), description="who may approve; without names anybody but the one who asked"
    )


class Prices(_Section):
    """What one message costs: SMS per segment, e-mail and push each."""

    sms: Amount = Field(default=parse_money("0 EUR"), description="one SMS segment")
    email: Amount = Field(default=parse_money("0 EUR"), description="one e-mail")
    push: Amount = Field(default=parse_money("0 EUR"), description="one push notification")


class Measurement(_Section):
    """How long late orders may still arrive, and how far back baselines look."""

    lateness: Duration = Field(
        default=timedelta(days=3), description="how long after its horizon an order may still be loaded"
    )
    drift: Share = Field(
        default=0.05, description="share of the planned audience that may have moved between plan and apply"
    )
    margin_includes: tuple[OfferKind, ...] = Field(
        default=("percent_off", "amount_off"),
        description="kinds of offers whose cost the margin of your orders is net of already; the cost of the others is "
        "taken off when margins are compared",
    )
    underpowered: Literal["warn", "refuse"] = Field(
        default="warn",
        description="whether a run is refused whose experiment cannot show its minimum effect in a year",
    )


class Reputation(_Section):
    """When retain pauses messages by itself: too many customers complain, or too many messages bounce.

    Source of the defaults: Google's guidelines for senders (complaints below 0.1 %, never 0.3 % or more); Amazon SES
    reviews an account whose bounces reach 5 % and stops it at 10 %.
    """

    complaint_rate: Share = Field(
        default=0.003, description="largest share of messages that customers may mark as spam"
    )
    bounce_rate: Share = Field(
        default=0.05, description="largest share of messages that may bounce for good (no such address, no such number)"
    )
    window: PositiveDuration = Field(
        default=timedelta(hours=24), description="how far back messages count, by when they left"
    )
    least_messages: int = Field(default=200, ge=1, description="with fewer messages in the window nothing is paused")
    least_harmed: int = Field(
        default=3, ge=1, description="with fewer complaints, or fewer bounces, nothing is paused for them"
    )


class LoyaltyPoints(_Section):
    """What offers of points turn purchases into, and what a point costs the company."""

    per_hundred: int = Field(default=100, ge=1, description="usual points for 100 units of money spent")
    value: Amount | None = Field(
        default=None, description="what one point costs; without it a redemption costs what the offer says"
    )


class CalendarEntry(_Section):
    """Something dated that moves customers whatever a campaign does: a holiday, a sale, an outage."""

    name: str = Field(description="what it was")
    starts_on: date = Field(alias="from", description="its first day")
    ends_on: date | None = Field(default=None, alias="to", description="its last day; without it, one day")

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> CalendarEntry:
        if self.ends_on is not None and self.ends_on < self.starts_on:
            raise ValueError(f"{self.name} ends on {self.ends_on}, before it starts on {self.starts_on}")
        return self


class ValueTiers(_Section):
    """Thresholds of the feature value_tier: shares of the customers who bought in the last 365 days."""

    gold_share: Share = Field(default=0.2, description="gold is this top share by spend")
    gold_orders: int = Field(default=2, ge=1, description="purchases in the last 365 days that gold takes at least")
    silver_share: Share = Field(default=0.5, description="silver is this top share by spend")
    silver_orders: int = Field(default=2, ge=1, description="purchases in the last 180 days that silver takes at least")


class FactsTable(_Section):
    """Where one canonical table lies in the company's own warehouse, and how it names the columns."""

    table: str | None = Field(default=None, description='for example "shop.sales"')
    columns: Mapping[str, str] = Field(default_factory=dict, description="canonical name -> the company's own")


class FactsTables(_Section):
    """The canonical tables as the company's own warehouse has them."""

    customers: FactsTable = FactsTable()
    orders: FactsTable = FactsTable()
    events: FactsTable = FactsTable()


class _Environment(EnvSettingsSource):
    """RETAIN_* variables; a value that is no JSON is taken as the text it is ("0.05 EUR")."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def _plain_path(value: object) -> object:
    return Path(value) if isinstance(value, str) else value


class Settings(BaseSettings):
    """All settings of a workspace. Names in RETAIN_*: upper case, sections joined by two underscores."""

    model_config = SettingsConfigDict(env_prefix="RETAIN_", env_nested_delimiter="__", frozen=True, extra="forbid")

    root: Annotated[Path, BeforeValidator(_plain_path)]
    seed: str = Field(default="retain", description="part of every salt: two workspaces with the same seed draw alike")
    facts_url: str = Field(default="duckdb", description="duckdb = Parquet files under data/; else any SQLAlchemy URL")
    facts_memory_limit: str | None = Field(default=None, description="DuckDB memory limit, e.g. 4GB")
    ledger_url: str = Field(default="", description="default: SQLite at data/ledger.db")
    operator: str = Field(
        default="operator", description="who acts on the command line where --by does not say; it is recorded"
    )
    load_time_zone: str = Field(default="UTC", description="zone of times in files that do not name one")
    secret: SecretStr = Field(
        default=SecretStr(""),
        description="key of generated codes, unsubscribe tokens and the HMACs of suppressed addresses; set it as "
        "RETAIN_SECRET",
    )
    old_secrets: tuple[SecretStr, ...] = Field(
        default=(),
        description="keys of former times, whose unsubscribe links stay valid and whose suppressed addresses stay out: "
        'RETAIN_OLD_SECRETS=["...", "..."]',
    )
    public_url: Address = Field(
        default="", description="the https address under which the world reaches /u and /receipts of `retain serve`"
    )
    holdout: Holdout = Holdout()
    caps: CompanyCaps = CompanyCaps()
    policy: Policy = Policy()
    company: Company = Company()
    content: Content = Content()
    approval: Approval = Approval()
    prices: Prices = Prices()
    providers: Providers = Providers()
    reputation: Reputation = Reputation()
    measurement: Measurement = Measurement()
    points: LoyaltyPoints = LoyaltyPoints()
    calendar: tuple[CalendarEntry, ...] = Field(
        default=(), description="days to name beside a measurement whose window they fall into"
    )
    value_tiers: ValueTiers = ValueTiers()
    facts: FactsTables = FactsTables()

    @property
    def data_dir(self) -> Path:
        """Where the embedded facts and ledger live."""
        return self.root / "data"

    @property
    def ledger_address(self) -> str:
        """The ledger's URL with its default filled in and a relative SQLite path anchored at the workspace."""
        url = self.ledger_url or "sqlite:///data/ledger.db"
        prefix = "sqlite:///"
        if url.startswith(prefix) and not url.startswith("sqlite:////"):
            return f"{prefix}{(self.root / url.removeprefix(prefix)).resolve()}"
        return url


def read_settings(root: Path, *, overrides: Mapping[str, Any] | None = None, environment: bool = True) -> Settings:
    """The settings of the workspace at `root`: `overrides` (flags) over RETAIN_* over retain.toml over the defaults.

    Without `environment` its variables do not count: the demonstration must not reach a company's own services.
    Raises SettingsError naming every wrong setting, its file or variable, and what was expected.
    """
    root = root.resolve()
    if not root.is_dir():
        raise SettingsError(f"{root}: no such directory; expected a workspace (make one with `retain init {root}`)")
    path = root / CONFIG_NAME
    _check_toml(path)

    class WorkspaceSettings(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (ours reads plain texts too)
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (the base class names it)
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (the base class names it)
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            usual = InitSettingsSource(settings_cls, usual_values(os.environ))
            toml = TomlConfigSettingsSource(settings_cls, toml_file=path)
            return (init_settings, _Environment(settings_cls), usual, toml) if environment else (init_settings, toml)

    try:
        return WorkspaceSettings(root=root, **(overrides or {}))
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(path, problem) for problem in error.errors())) from None


def workspace_root(path: str | Path | None) -> Path:
    """The directory of the workspace: the one given, else RETAIN_WORKSPACE, else the working directory."""
    return Path(path or os.environ.get("RETAIN_WORKSPACE") or ".")


def _check_toml(path: Path) -> None:
    if not path.is_file():
        return
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}; correct the file") from None
    if found := secrets_in(Settings, document):
        names = [name.split(".") for name in found]
        raise SettingsError(
            "\n".join(f"{path}{_line_of(path, n)}: {_NOT_HERE.format('.'.join(n), _variable(n))}" for n in names)
        )


def _explain(path: Path, problem: Mapping[str, Any]) -> str:
    names = [str(part) for part in problem["loc"]]
    key = ".".join(names)
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        known = get_close_matches(names[-1], _names_beside(names), n=1)
        hint = f' (did you mean "{known[0]}"?)' if known else ""
        message = f"unknown setting{hint}"
    place = f"{path}{_line_of(path, names)}"
    return f"{place}: {key}: {message}; it may also come from the environment variable {_variable(names)}"


def _names_beside(names: list[str]) -> list[str]:
    model: type[BaseModel] = Settings
    for name in names[:-1]:
        inner = model.model_fields[name].annotation if name in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)


def _variable(names: list[str]) -> str:
    usual = next((name for name, path in USUAL_NAMES.items() if path == tuple(names)), None)
    return usual or "RETAIN_" + "__".join(names).upper()


def _line_of(path: Path, names: list[str]) -> str:
    if not path.is_file():
        return ""
    pattern = re.compile(rf"^\s*\[?\"?{re.escape(names[-1])}\"?\s*[=\]]")
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((f":{number}" for number, line in enumerate(lines, start=1) if pattern.match(line)), "")
