"""Why a campaign file was not changed."""

from campaigns.errors import CampaignError


class WriteBackError(CampaignError):
    """An edit cannot be made safely, or the file is no longer what the decision was taken on; nothing was changed."""
