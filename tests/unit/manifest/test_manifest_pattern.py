"""The manifests' path patterns mean the same on every system."""

from __future__ import annotations

import pytest

from lading.manifest.pattern import matches, path_pattern


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("a/b.txt", "a/b.txt", True),
        ("a/b.txt", "a/bxtxt", False),
        ("a/*.txt", "a/b.txt", True),
        ("a/*.txt", "a/c/b.txt", False),
        ("*.txt", "a/b.txt", False),
        ("**/*.a", "x.a", True),
        ("**/*.a", "a/b/c/x.a", True),
        ("**/*.a", "a/b/c/x.ab", False),
        ("a/**", "a/b", True),
        ("a/**", "a/b/c", True),
        ("a/**", "a", False),
        ("a/**", "ab/c", False),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "a/xb", False),
        ("lib?.so", "liba.so", True),
        ("lib?.so", "lib/.so", False),
        ("lib[ab].so", "liba.so", True),
        ("lib[!ab].so", "libc.so", True),
        ("lib[!ab].so", "liba.so", False),
        ("lib[0-9].so", "lib7.so", True),
        ("torch/bin/protoc*", "torch/bin/protoc-3.13.0.0", True),
        ("torch/bin/protoc*", "torch/bin/torch_shm_manager", False),
        ("A.txt", "a.txt", False),
        ("a+(b).txt", "a+(b).txt", True),
        ("nvidia/**/libx.so.*", "nvidia/libx.so.11", True),
    ],
)
def test_pattern_matches_the_whole_path(pattern: str, path: str, *, expected: bool) -> None:
    assert matches(pattern, path) is expected


@pytest.mark.parametrize("pattern", ["/a", "a//b", "../a", "a/./b", "a\\b", "a/**b", "a**", "", "a/"])
def test_a_pattern_that_cannot_be_meant_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"relative path|stands alone"):
        path_pattern(pattern)
