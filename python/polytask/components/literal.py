"""Defaults as they are written in Python source."""

import json
from typing import Any


def literal(value: Any) -> str:
    """The value as Python source, with the quotes of ours."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    return json.dumps(value) if isinstance(value, str) else repr(value)
