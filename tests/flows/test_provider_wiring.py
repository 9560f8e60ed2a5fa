"""Who sends on which channel: settings, the environment's usual names, and accounts that are not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from channels.providers.email_sendgrid import SendGridProvider
from channels.providers.local import LocalProvider
from channels.providers.push_fcm import FcmProvider
from channels.providers.sms_twilio import TwilioProvider
from flows.provider_settings import USUAL_NAMES, checked_address
from flows.provider_wiring import make_providers
from flows.settings import SettingsError, read_settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in USUAL_NAMES:
        monkeypatch.delenv(name, raising=False)


def write(root: Path, text: str) -> Path:
    (root / "retain.toml").write_text(text, encoding="utf-8")
    return root


def test_without_settings_everything_is_written_to_the_outbox_folder(tmp_path: Path) -> None:
    providers = make_providers(read_settings(tmp_path))
    assert sorted(providers) == ["email", "push", "sms"]
    assert all(isinstance(provider, LocalProvider) for provider in providers.values())
    assert providers["sms"] is providers["sms"]


def test_accounts_come_from_the_environment_under_their_usual_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        tmp_path,
        'public_url = "https://news.shop.example/"\n[providers]\nsms = "twilio"\nemail = "sendgrid"\n'
        '[providers.twilio]\nsender = "+15005550006"\nrate_per_s = 2.5\nreconcile_after = "10 minutes"\n'
        '[providers.sendgrid]\nsender = "news@shop.example"\n',
    )
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", "AC1")
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "sesame")
    monkeypatch.setenv("SENDGRID_API_KEY", "SG.1")
    settings = read_settings(tmp_path)
    providers = make_providers(settings)
    twilio, sendgrid = providers["sms"], providers["email"]
    assert isinstance(twilio, TwilioProvider)
    assert isinstance(sendgrid, SendGridProvider)
    assert (twilio.account.account_sid, twilio.account.auth_token) == ("AC1", "sesame")
    assert twilio.account.status_callback == "https://news.shop.example/receipts/twilio/status"
    assert (sendgrid.account.api_key, sendgrid.account.base_url) == ("SG.1", "https://api.sendgrid.com")
    assert (settings.providers.rate_per_s("sms"), settings.providers.rate_per_s("push")) == (2.5, None)
    assert "sesame" not in repr(settings)


def test_our_own_name_goes_before_the_usual_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", "AC-usual")
    monkeypatch.setenv("RETAIN_PROVIDERS__TWILIO__ACCOUNT_SID", "AC-ours")
    assert read_settings(tmp_path).providers.twilio.account_sid == "AC-ours"


@pytest.mark.parametrize(
    ("text", "place", "variable"),
    [
        ('[providers.twilio]\nauth_token = "x"\n', "retain.toml:2: providers.twilio.auth_token", "TWILIO_AUTH_TOKEN"),
        ('[providers.sendgrid]\napi_key = "x"\n', "retain.toml:2: providers.sendgrid.api_key", "SENDGRID_API_KEY"),
        ('secret = "x"\n', "retain.toml:1: secret", "RETAIN_SECRET"),
        ('old_secrets = ["x"]\n', "retain.toml:1: old_secrets", "RETAIN_OLD_SECRETS"),
    ],
)
def test_a_secret_in_the_file_is_refused(tmp_path: Path, text: str, place: str, variable: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(write(tmp_path, text))
    assert place in str(caught.value)
    assert variable in str(caught.value)


@pytest.mark.parametrize(
    ("channel", "text", "says"),
    [
        ("sms", '[providers]\nsms = "twilio"\n', "either messaging_service_sid or sender"),
        ("sms", '[providers]\nsms = "twilio"\n[providers.twilio]\nsender = "+1"\n', "TWILIO_ACCOUNT_SID"),
        ("email", '[providers]\nemail = "sendgrid"\n', "SENDGRID_API_KEY"),
        ("push", '[providers]\npush = "fcm"\n', "GOOGLE_APPLICATION_CREDENTIALS"),
        ("push", '[providers]\npush = "fcm"\n[providers.fcm]\ncredentials_file = "gone.json"\n', "key file"),
    ],
)
def test_what_an_account_lacks_is_said_when_it_is_needed_and_not_before(
    tmp_path: Path, channel: str, text: str, says: str
) -> None:
    providers = make_providers(read_settings(write(tmp_path, text)))
    with pytest.raises(SettingsError, match=says):
        providers[channel]


@pytest.mark.parametrize(("channel", "name"), [("sms", "sendgrid"), ("email", "twilio"), ("push", "pigeon")])
def test_a_provider_of_another_channel_is_refused(tmp_path: Path, channel: str, name: str) -> None:
    with pytest.raises(SettingsError, match=f'providers.{channel}: unknown provider "{name}"'):
        make_providers(read_settings(write(tmp_path, f'[providers]\n{channel} = "{name}"\n')))


def test_a_service_accounts_file_names_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = serialization.NoEncryption()
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()
    file = tmp_path / "key.json"
    file.write_text(json.dumps({"client_email": "x@shop.example", "private_key": text, "project_id": "shop"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    provider = make_providers(read_settings(write(tmp_path, '[providers]\npush = "fcm"\n')))["push"]
    assert isinstance(provider, FcmProvider)
    assert provider.project.project_id == "shop"


@pytest.mark.parametrize("key", ["k", "", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 5])
def test_a_service_account_whose_key_is_none_is_told_before_anything_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: object
) -> None:
    file = tmp_path / "key.json"
    file.write_text(json.dumps({"client_email": "x@shop.example", "private_key": key, "project_id": "shop"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    with pytest.raises(SettingsError, match="not a service account's key file"):
        make_providers(read_settings(write(tmp_path, '[providers]\npush = "fcm"\n')))["push"]


def test_simulated_providers_speak_to_the_simulator_on_this_machine(tmp_path: Path) -> None:
    text = '[providers]\nsms = "simulated"\nemail = "simulated"\npush = "simulated"\n'
    providers = make_providers(read_settings(write(tmp_path, text)))
    twilio, sendgrid, fcm = providers["sms"], providers["email"], providers["push"]
    assert isinstance(twilio, TwilioProvider)
    assert isinstance(sendgrid, SendGridProvider)
    assert isinstance(fcm, FcmProvider)
    assert twilio.account.base_url == sendgrid.account.base_url == fcm.project.base_url == "http://127.0.0.1:8800"


@pytest.mark.parametrize("address", ["http://api.twilio.com", "ftp://x", "https://", "169.254.169.254", "http://[::1"])
def test_an_address_that_is_neither_https_nor_on_this_machine_is_refused(address: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (urlsplit has words of its own for a broken one)
        checked_address(address)


def test_addresses_lose_their_last_slash() -> None:
    assert checked_address("https://shop.example/a/") == "https://shop.example/a"
    assert checked_address("http://localhost:8800") == "http://localhost:8800"


def test_a_mail_server_of_ones_own_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from channels.providers.email_smtp import SmtpProvider

    monkeypatch.setenv("SMTP_PASSWORD", "canary-of-smtp")
    (tmp_path / "retain.toml").write_text(
        '[providers]\nemail = "smtp"\n[providers.smtp]\nhost = "mail.shop.example"\nsender = "news@shop.example"\n'
        'username = "news"\nrate_per_s = 20\n',
        encoding="utf-8",
    )
    settings = read_settings(tmp_path)
    provider = make_providers(settings)["email"]
    assert isinstance(provider, SmtpProvider)
    assert settings.providers.rate_per_s("email") == 20
    assert "canary-of-smtp" not in repr(settings)


def test_a_mail_server_without_a_name_or_with_a_sender_that_is_none_is_refused(tmp_path: Path) -> None:
    settings = read_settings(tmp_path, overrides={"providers": {"email": "smtp"}})
    with pytest.raises(SettingsError, match="RETAIN_PROVIDERS__SMTP__HOST"):
        make_providers(settings)["email"]
    wrong = {"providers": {"email": "smtp", "smtp": {"host": "h", "sender": "nobody"}}}
    with pytest.raises(SettingsError, match=r"providers\.smtp: smtp: the sender is not an e-mail address"):
        make_providers(read_settings(tmp_path, overrides=wrong))["email"]
