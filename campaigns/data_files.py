"""The product's own data files (legal hours, zones of regions): YAML, checked by a model when they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from campaigns.errors import CampaignError
from campaigns.problems import show_path
from campaigns.validation import validate
from campaigns.yaml_source import read_yaml


def read_data_file(kind: Any, path: Path) -> Any:
    """The file as a value of type `kind`. Raises CampaignError that names file, line and key of the first mistake."""
    source = read_yaml(path)
    for flaw in source.flaws:
        raise CampaignError(f"{path}:{flaw.place.line}: {show_path(flaw.location)}: {flaw.message}; mend the file")
    value, issues = validate(kind, source.values)
    for issue in issues:
        line = (source.place_of_key if issue.at_key else source.place_of)(issue.location).line
        raise CampaignError(f"{path}:{line}: {show_path(issue.location)}: {issue.message}; mend the file")
    return value
