"""The root of every error this room raises."""

from __future__ import annotations


class CampaignError(Exception):
    """What a campaign, segment, offer or template says cannot be done; says what, where and what to do."""
