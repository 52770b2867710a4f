"""Each bound has one value."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from relay import limits


def test_no_name_is_given_twice() -> None:
    """The later one would rule, and neither place would say so."""
    tree = ast.parse(Path(limits.__file__).read_text())
    names = Counter(target.id for node in tree.body if isinstance(node, ast.Assign) for target in _names(node))
    assert len(names) > 100
    assert [name for name, count in names.items() if count > 1] == []


def _names(node: ast.Assign) -> list[ast.Name]:
    return [one for target in node.targets for one in ast.walk(target) if isinstance(one, ast.Name)]
