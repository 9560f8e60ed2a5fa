"""Makes providers of settings: each when it is first needed, so that planning needs no account."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from channels.message import Channel
from channels.provider import Provider
from channels.providers.local import LocalProvider
from flows.settings import Settings, SettingsError

if TYPE_CHECKING:
    from channels.providers.push_fcm import TokenSource
    from channels.wire import Wire

SIMULATED_TOKEN: Final = "token"  # noqa: S105 (the simulator's own, known to everybody)

CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "sms": ("local", "twilio", "simulated"),
    "email": ("local", "sendgrid", "smtp", "simulated"),
    "push": ("local", "fcm", "simulated"),
}


class Providers(Mapping[str, Provider]):
    """The provider of each channel, made when it is first asked for; then a wrong account raises SettingsError."""

    def __init__(self, makers: Mapping[str, Callable[[], Provider]]) -> None:
        """`makers`: channel -> what makes its provider."""
        self._makers = dict(makers)
        self._made: dict[str, Provider] = {}

    def __getitem__(self, channel: str) -> Provider:
        if channel not in self._made:
            self._made[channel] = self._makers[channel]()
        return self._made[channel]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def make_providers(settings: Settings) -> Providers:
    """One provider for each channel, as the settings name them.

    Raises SettingsError for a name that no provider of the channel bears.
    """
    makers: dict[str, Callable[[], Provider]] = {}
    for channel, names in CHOICES.items():
        name = getattr(settings.providers, channel)
        if name not in names:
            expected = ", ".join(f'"{known}"' for known in names)
            raise SettingsError(
                f'retain.toml: providers.{channel}: unknown provider "{name}"; expected one of {expected}'
            )
        makers[channel] = _maker(settings, cast(Channel, channel), name)
    return Providers(makers)


def twilio_token(settings: Settings) -> str:
    """The token that Twilio signs its webhooks with; "" where there is none, and nothing is believed."""
    if settings.providers.sms == "simulated":
        return SIMULATED_TOKEN
    return settings.providers.twilio.auth_token.get_secret_value()


def _maker(settings: Settings, channel: Channel, name: str) -> Callable[[], Provider]:
    if name == "local":
        return lambda: LocalProvider(channel, settings.root / "outbox")
    if name == "smtp":
        return lambda: _smtp(settings)
    make = {"sms": _twilio, "email": _sendgrid, "push": _fcm}[channel]
    return lambda: make(settings, simulated=name == "simulated")


def _twilio(settings: Settings, *, simulated: bool) -> Provider:
    from channels.providers.sms_twilio import TwilioAccount, TwilioProvider

    given = settings.providers.twilio
    callback = f"{settings.public_url}/receipts/twilio/status" if settings.public_url else None
    if simulated:
        account = _simulated_twilio(settings, callback)
    else:
        if (given.messaging_service_sid is None) == (given.sender is None):
            raise SettingsError("providers.twilio: set either messaging_service_sid or sender, and not both")
        account = TwilioAccount(
            _needed(given.account_sid, "sms", "twilio", "account_sid", "TWILIO_ACCOUNT_SID"),
            _needed(given.auth_token.get_secret_value(), "sms", "twilio", "auth_token", "TWILIO_AUTH_TOKEN"),
            messaging_service_sid=given.messaging_service_sid,
            sender=given.sender,
            status_callback=callback,
            base_url=given.base_url or None,
        )
    return TwilioProvider(account)


def _simulated_twilio(settings: Settings, callback: str | None) -> Any:
    from channels.providers.sms_twilio import TwilioAccount

    return TwilioAccount(
        "AC" + "0" * 32,
        SIMULATED_TOKEN,
        sender="+15005550006",
        status_callback=callback,
        base_url=settings.providers.simulator_url,
    )


def _sendgrid(settings: Settings, *, simulated: bool) -> Provider:
    from channels.providers.email_sendgrid import SendGridProvider
    from channels.providers.sendgrid_body import SendGridAccount

    given = settings.providers.sendgrid
    if simulated:
        address, sender = settings.providers.simulator_url, "campaigns@shop.example"
        return SendGridProvider(SendGridAccount("SG.key", sender, base_url=address, email_logs=given.email_logs))
    account = SendGridAccount(
        _needed(given.api_key.get_secret_value(), "email", "sendgrid", "api_key", "SENDGRID_API_KEY"),
        _needed(given.sender, "email", "sendgrid", "sender", "RETAIN_PROVIDERS__SENDGRID__SENDER"),
        sender_name=given.sender_name,
        reply_to=given.reply_to,
        asm_group_id=given.asm_group_id,
        sandbox=given.sandbox,
        email_logs=given.email_logs,
        base_url=given.base_url or "https://api.sendgrid.com",
    )
    return SendGridProvider(account)


def _smtp(settings: Settings) -> Provider:
    from channels.errors import ChannelError
    from channels.providers.email_smtp import SmtpProvider, SmtpServer

    given = settings.providers.smtp
    try:
        server = SmtpServer(
            _needed(given.host, "email", "smtp", "host", "RETAIN_PROVIDERS__SMTP__HOST"),
            _needed(given.sender, "email", "smtp", "sender", "RETAIN_PROVIDERS__SMTP__SENDER"),
            port=given.port,
            security=given.security,
            username=given.username,
            password=given.password.get_secret_value(),
            sender_name=given.sender_name,
            reply_to=given.reply_to,
        )
    except ChannelError as error:
        raise SettingsError(f"retain.toml: providers.smtp: {error}") from None
    return SmtpProvider(server)


def _fcm(settings: Settings, *, simulated: bool) -> Provider:
    from channels.providers.push_fcm import FcmProject, FcmProvider, FixedToken
    from channels.wire import Wire, WireLimits

    given = settings.providers.fcm
    wire = Wire(WireLimits(connections=64, total_s=20.0))
    if simulated:
        project = FcmProject("simulated", FixedToken("access"), base_url=settings.providers.simulator_url)
    else:
        tokens, named = _service_account(given.credentials_file, wire)
        project_id = _needed(
            given.project_id or named, "push", "fcm", "project_id", "RETAIN_PROVIDERS__FCM__PROJECT_ID"
        )
        project = FcmProject(project_id, tokens, base_url=given.base_url or "https://fcm.googleapis.com")
    return FcmProvider(project, wire=wire)


def _service_account(path: Path | None, wire: Wire) -> tuple[TokenSource, str]:
    from channels.providers.push_fcm import ServiceAccountToken

    variable = "GOOGLE_APPLICATION_CREDENTIALS"
    file = _needed(str(path or ""), "push", "fcm", "credentials_file", variable)
    try:
        info = json.loads(Path(file).read_text(encoding="utf-8"))
        return ServiceAccountToken(info, wire=wire), str(info.get("project_id", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{file}: not a service account's key file ({type(error).__name__}); download one from the Firebase "
            f"console and name it by {variable}"
        ) from None


def _needed(value: str, channel: str, section: str, key: str, variable: str) -> str:
    if not value:
        raise SettingsError(
            f"providers.{channel} is {section}, but providers.{section}.{key} is not set; "
            f"set {variable} in the environment"
        )
    return value
