"""A shop of twelve customers, of whom four in five have been sent a text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from flows.settings import Settings
from flows.steps.deliver_messages import deliver_messages
from flows.steps.load_facts import load_facts
from flows.steps.make_workspace import make_workspace
from flows.steps.run_campaign import run_campaign
from flows.wiring import open_workspace

CUSTOMERS = 12
CAMPAIGN = """\
campaign: back
status: active
audience: {segment: orders >= 1}
experiment: {control: 20%, horizon: 30 days, primary: repurchase, minimum_effect: 10pp}
arms:
  text: {weight: 80%, steps: [{channel: sms, template: hello}]}
timing: {window: {from: "09:00", to: "19:00"}}
"""


def make_sent_shop(
    root: Path, text: str, *, settings_of: Callable[[Path], Settings], column: tuple[str, list[str]], now: datetime
) -> Path:
    """A new workspace whose texts have left at `now`; `column` is what is known of the customers besides."""
    make_workspace(root)
    for file in (root / "campaigns" / "book").iterdir():
        file.unlink()
    (root / "campaigns" / "book" / "back.yaml").write_text(CAMPAIGN, encoding="utf-8")
    (root / "templates" / "sms" / "hello.txt.j2").write_text(text, encoding="utf-8")
    name, values = column
    people = [f"customer_id,created_at,email,phone,consent_sms,time_zone,{name}"]
    people += [f"C{n},2024-01-01,c{n}@mail.example,+150055500{n:02d},yes,UTC,{values[n]}" for n in range(CUSTOMERS)]
    orders = ["order_id,customer_id,ordered_at,amount"] + [f"O{n},C{n},2025-12-01,20" for n in range(CUSTOMERS)]
    with open_workspace(settings_of(root)) as ws:
        for table, lines in (("customers", people), ("orders", orders)):
            path = root / f"{table}.csv"
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
            load_facts(ws, table, [path], renames={}, now=now)
        run_campaign(ws, "back", as_of=now)
        assert deliver_messages(ws, now=now, worker="test").sent > 5
    return root
