"""YAML as the lab writes it: keys in the order given, letters of every script as they are, and read back the same."""

from typing import Any

import yaml

# Outside double quotes PyYAML spreads a text with line breaks over lines, and reads the last three as spaces.
BREAKS = "\n\x85\u2028\u2029"


class _Dumper(yaml.SafeDumper):
    """`yaml.safe_dump`'s, but for texts with line breaks."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if set(BREAKS) & set(text) else None)


_Dumper.add_representer(str, _text)


def to_yaml(data: Any, **options: Any) -> str:
    """`data` as YAML that `yaml.safe_load` reads back the same. `options` are those of `yaml.dump`."""
    return str(yaml.dump(data, Dumper=_Dumper, **{"sort_keys": False, "allow_unicode": True} | options))


def one_line(value: Any) -> str:
    """A value as `--set key=...` reads it back."""
    listed = to_yaml([value], default_flow_style=True, width=10**9)
    return listed.strip().removeprefix("[").removesuffix("]")
