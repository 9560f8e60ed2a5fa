"""A campaign file to edit, and edits of it."""

from __future__ import annotations

from campaigns.write_back import Edit

CAMPAIGN = """\
# yaml-language-server: $schema=../schema.json
campaign: winback-90d          # 老客户召回
owner: 'crm'
status: "active"
arms:
  ten-percent-sms:   # the usual
    weight: 40%      # of everybody
    offer: ten-percent
    steps:
      - {channel: sms, template: winback}
      - {channel: email, template: reminder, after: 4 days}
  double-points:
    weight: "40%"
    steps: []
experiment: {control: 20%, looks: 4, horizon: 30 days}   # flow
"""


def edit(path: str, value: str) -> Edit:
    return Edit(tuple(path.split("/")), value)
