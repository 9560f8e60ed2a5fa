"""Write-back: a decision changes named values of a campaign file, and not one byte more."""

from campaigns.write_back.errors import WriteBackError
from campaigns.write_back.patch import Patch, apply, propose, sha256_of, undo
from campaigns.write_back.splice import Edit, splice

__all__ = ["Edit", "Patch", "WriteBackError", "apply", "propose", "sha256_of", "splice", "undo"]
