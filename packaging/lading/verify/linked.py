"""Checks of a tree's shared libraries: level *linkage*. The analysis itself is :mod:`lading.linkage`."""

from __future__ import annotations

from collections import Counter

from pydantic import JsonValue

from lading.linkage.floor import within
from lading.linkage.record import Linkage
from lading.linkage.scan import scan
from lading.verify.context import TreeContext
from lading.verify.engine import SHOWN, Outcome, failed, from_problems, passed, skipped


def _analysis(context: TreeContext) -> Linkage:
    if context.linkage is None:
        context.linkage = scan(context.tree, context.payload, platform=context.platform)
    return context.linkage


def check_readable(context: TreeContext) -> Outcome:
    """Every shared object can be read: none is cut off or damaged in what the loader acts on."""
    linkage = _analysis(context)
    problems = [item.reason for item in linkage.unreadable]
    return from_problems(problems, f"{len(linkage.objects)} shared objects", objects=len(linkage.objects))


def check_resolved(context: TreeContext) -> Outcome:
    """Every needed library is in the tree or on the list of system libraries."""
    linkage = _analysis(context)
    problems = [f"{item.importer} needs {item.name}: {item.reason}" for item in linkage.unresolved]
    how: dict[str, JsonValue] = dict(Counter(need.how for need in linkage.needs))
    system: list[JsonValue] = []
    system.extend(sorted({need.name for need in linkage.needs if need.how == "system"}))
    elsewhere: list[JsonValue] = []
    elsewhere.extend(f"{need.importer} -> {need.provider}" for need in linkage.needs if need.how == "elsewhere")
    found = f"{len(linkage.needs)} needs, all answered"
    return from_problems(problems, found, how=how, system=system, preloaded=elsewhere[:SHOWN])


def check_search_paths(context: TreeContext) -> Outcome:
    """No need reaches a search path entry that leaves the tree."""
    linkage = _analysis(context)
    if linkage.system == "windows":
        return skipped("Windows' libraries carry no search path")
    problems = [
        f"{item.path} would look for {', '.join(item.reached)} in {item.entry or 'the working folder'!r}: {item.reason}"
        for item in linkage.escapes
        if item.reached
    ]
    dead = [item for item in linkage.escapes if not item.reached]
    entries: list[JsonValue] = list(dict.fromkeys(item.entry for item in dead))
    found = f"{len(dead)} entries lead outside and are never reached" if dead else "all inside"
    return from_problems(problems, found, dead=len(dead), dead_entries=entries)


def check_glibc(context: TreeContext) -> Outcome:
    """The tree asks for no newer glibc than was stated."""
    linkage = _analysis(context)
    if linkage.system == "windows":
        return skipped("Windows has no glibc")
    by: list[JsonValue] = list(linkage.floor_objects[:SHOWN])
    if context.glibc is None:
        return skipped(f"no floor was stated; the tree needs glibc {linkage.glibc}", needs=linkage.glibc, by=by)
    if not within(linkage.glibc, context.glibc):
        what = f"the tree needs glibc {linkage.glibc} ({linkage.floor_objects[0]}), the release says {context.glibc}"
        return failed(what, needs=linkage.glibc, stated=context.glibc, by=by)
    return passed(f"glibc {linkage.glibc}", needs=linkage.glibc, stated=context.glibc, glibcxx=linkage.glibcxx, by=by)
