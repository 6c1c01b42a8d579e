"""The list of the guide's code blocks and the tests in this folder agree."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def tests():
    """{module: {test: docstring}} of the tests in this folder, in their order."""
    found = {}
    for path in sorted(HERE.glob("test_[0-9]*.py")):
        functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        found[path.stem] = {f.name: f for f in functions if f.name.startswith("test_")}
    return found


def test_the_list_is_the_guide(guide):
    counts = Counter(block.section for block in guide.BLOCKS)
    assert counts == {
        "Quick Start": 3,
        "Entity-Specific Persistence": 9,
        "Binary Format": 6,
        "JSON Format": 2,
        "Custom Plugins": 3,
        "Transient Components": 1,
        "Version Migrations": 3,
        "Performance Optimization": 4,
        "Error Handling": 3,
        "Best Practices": 7,
        "Troubleshooting": 4,
    }
    assert list(counts) == list(guide.MODULES)
    assert Counter(block.language for block in guide.BLOCKS) == {"rust": 43, "text": 1, "json": 1}
    for section, count in counts.items():
        ordinals = [block.ordinal for block in guide.BLOCKS if block.section == section]
        assert ordinals == list(range(1, count + 1))


def test_every_code_block_has_its_test(guide, tests):
    assert set(tests) == set(guide.MODULES.values())
    for section, module in guide.MODULES.items():
        blocks = [block for block in guide.BLOCKS if block.section == section]
        assert [block.test for block in blocks] == list(tests[module])
        for block in blocks:
            first, *_ = ast.get_docstring(tests[module][block.test]).splitlines()
            assert first == f"{block.section}, block {block.ordinal}: {block.title}."


def test_no_block_is_left_out_or_passes_without_a_check(tests):
    for module, functions in tests.items():
        for name, function in functions.items():
            assert not function.decorator_list, f"{module}::{name}"
            text = ast.unparse(function)
            assert "skip" not in text, f"{module}::{name}"
            assert any(isinstance(node, ast.Assert) for node in ast.walk(function)), f"{module}::{name}"
