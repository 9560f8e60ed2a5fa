"""Settings of who sends: which provider on which channel, its account, its pace. Secrets come from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from campaigns.units import Duration

USUAL_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "TWILIO_ACCOUNT_SID": ("providers", "twilio", "account_sid"),
    "TWILIO_AUTH_TOKEN": ("providers", "twilio", "auth_token"),
    "TWILIO_WEBHOOK_KEY": ("providers", "twilio", "webhook_key"),
    "TWILIO_MESSAGING_SERVICE_SID": ("providers", "twilio", "messaging_service_sid"),
    "SENDGRID_API_KEY": ("providers", "sendgrid", "api_key"),
    "SMTP_PASSWORD": ("providers", "smtp", "password"),
    "GOOGLE_APPLICATION_CREDENTIALS": ("providers", "fcm", "credentials_file"),
}
"""The names these settings bear in everybody's environment; RETAIN_PROVIDERS__... goes before them."""

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def checked_address(text: str) -> str:
    """An https address, or http on this machine; without a slash at the end. Raises ValueError for another one."""
    parts = urlsplit(text)
    if (
        text
        and not (parts.scheme == "https" and parts.hostname)
        and not (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    ):
        raise ValueError("expected https://..., or http://127.0.0.1:PORT for this machine")
    return text.rstrip("/")


def _plain_path(value: object) -> object:
    return Path(value) if isinstance(value, str) else value


Address = Annotated[str, AfterValidator(checked_address)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TwilioSettings(_Section):
    """The Twilio account that sends SMS."""

    account_sid: str = Field(default="", description="the account, AC...; also TWILIO_ACCOUNT_SID")
    auth_token: SecretStr = Field(
        default=SecretStr(""), description="its Auth Token, which signs webhooks too; set it as TWILIO_AUTH_TOKEN"
    )
    webhook_key: SecretStr = Field(
        default=SecretStr(""),
        description="secret of the shared key of webhooks signed by HMAC-SHA256; set it as TWILIO_WEBHOOK_KEY",
    )
    messaging_service_sid: str | None = Field(default=None, description="the Messaging Service that sends, MG...")
    sender: str | None = Field(default=None, description="the number or name that sends, where there is no service")
    base_url: Address = Field(default="", description="in place of https://api.twilio.com, for a simulator")
    rate_per_s: float | None = Field(default=None, gt=0, description="segments a second at most")
    reconcile_after: Duration = Field(
        default=timedelta(minutes=5), description="how long after an attempt in doubt Twilio is asked about it"
    )


class SendGridSettings(_Section):
    """The SendGrid account that sends e-mails."""

    api_key: SecretStr = Field(default=SecretStr(""), description="its key; set it as SENDGRID_API_KEY")
    sender: str = Field(default="", description="the address e-mails come from")
    sender_name: str | None = Field(default=None, description="the name beside that address")
    reply_to: str | None = Field(default=None, description="the address answers go to")
    asm_group_id: int | None = Field(default=None, description="the unsubscribe group at SendGrid")
    sandbox: bool = Field(default=False, description="SendGrid checks the e-mails and sends none")
    webhook_public_key: str = Field(
        default="", description="the key that SendGrid shows for signed event webhooks; without it none is believed"
    )
    email_logs: bool = Field(
        default=False, description="the key may read the Email Logs: SendGrid can be asked about e-mails in doubt"
    )
    reconcile_after: Duration = Field(
        default=timedelta(minutes=15), description="how long after an attempt in doubt SendGrid is asked about it"
    )
    base_url: Address = Field(default="", description="in place of https://api.sendgrid.com, for a simulator")
    rate_per_s: float | None = Field(default=None, gt=0, description="e-mails a second at most")


class SmtpSettings(_Section):
    """Any mail server that takes our e-mails, for those without SendGrid. It cannot be asked what it took."""

    host: str = Field(default="", description="the server's name")
    port: int = Field(default=587, ge=1, le=65_535, description="its port")
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="starttls, tls from the first byte, or none for a server on this machine"
    )
    username: str | None = Field(default=None, description="who signs in, where the server asks")
    password: SecretStr = Field(default=SecretStr(""), description="set it as SMTP_PASSWORD")
    sender: str = Field(default="", description="the address e-mails come from")
    sender_name: str | None = Field(default=None, description="the name beside that address")
    reply_to: str | None = Field(default=None, description="the address answers go to")
    rate_per_s: float | None = Field(default=None, gt=0, description="e-mails a second at most")


class FcmSettings(_Section):
    """The Firebase project whose app is spoken to."""

    project_id: str = Field(default="", description="the project; default: the one the credentials name")
    credentials_file: Annotated[Path | None, BeforeValidator(_plain_path)] = Field(
        default=None, description="the service account's key file; also GOOGLE_APPLICATION_CREDENTIALS"
    )
    base_url: Address = Field(default="", description="in place of https://fcm.googleapis.com, for a simulator")
    rate_per_s: float | None = Field(default=None, gt=0, description="notifications a second at most")


class Providers(_Section):
    """Which provider sends on which channel."""

    sms: str = Field(default="local", description="who sends SMS: local, twilio or simulated")
    email: str = Field(default="local", description="who sends e-mails: local, sendgrid, smtp or simulated")
    push: str = Field(default="local", description="who sends push notifications: local, fcm or simulated")
    simulator_url: Address = Field(
        default="http://127.0.0.1:8800", description="where `python -m channels.simulators` listens, for simulated"
    )
    twilio: TwilioSettings = TwilioSettings()
    sendgrid: SendGridSettings = SendGridSettings()
    smtp: SmtpSettings = SmtpSettings()
    fcm: FcmSettings = FcmSettings()

    def rate_per_s(self, channel: str) -> float | None:
        """How much may leave on a channel in a second (SMS: segments), None where nothing limits it."""
        accounts = {
            "twilio": self.twilio.rate_per_s,
            "sendgrid": self.sendgrid.rate_per_s,
            "smtp": self.smtp.rate_per_s,
            "fcm": self.fcm.rate_per_s,
        }
        return accounts.get(getattr(self, channel))

    def reconcile_after(self, channel: str) -> timedelta:
        """How old an attempt in doubt must be before the channel's provider is asked about it."""
        return self.sendgrid.reconcile_after if channel == "email" else self.twilio.reconcile_after


def usual_values(environ: Mapping[str, str]) -> dict[str, Any]:
    """The settings that the environment gives under the providers' usual names, as one nested mapping."""
    found: dict[str, Any] = {}
    for name, path in USUAL_NAMES.items():
        if value := environ.get(name):
            place = found
            for part in path[:-1]:
                place = place.setdefault(part, {})
            place[path[-1]] = value
    return found


def secrets_in(model: type[BaseModel], document: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[str]:
    """The names of secret settings that stand in a document, where they do not belong."""
    found: list[str] = []
    for name, value in document.items():
        field = model.model_fields.get(name)
        if field is None:
            continue
        inner = field.annotation
        if "SecretStr" in str(inner):
            found.append(".".join((*path, name)))
        elif isinstance(inner, type) and issubclass(inner, BaseModel) and isinstance(value, Mapping):
            found += secrets_in(inner, value, (*path, name))
    return found
