"""A build's summary as Markdown, for the job page of a CI run. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from lading.report.format import duration, plural, share, size
from lading.report.markdown import code, escape, table
from lading.report.summary import BuildSummary, top
from lading.report.verification import verdict, verification_markdown

OWNERS = 15
SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"


def _sections(summary: BuildSummary) -> Iterator[str]:
    state = "✅ built and verified" if summary.good else f"❌ {escape(summary.problem or 'a verification failed')}"
    name = f"{summary.app} {summary.version} {summary.flavor} {summary.platform}"
    yield f"## {escape(name)}\n\n{state} in {duration(summary.seconds)}, commit {code(summary.commit)}"
    if summary.parts:
        rows = [
            (part.name, code(part.version), f"{part.files:,}", size(part.unpacked), size(part.packed),
             size(part.budget) if part.budget is not None else "", "yes" if part.reused else "")
            for part in summary.parts
        ]  # fmt: skip
        header = ("component", "version", "files", "unpacked", "download", "budget", "reused")
        total = f"A first install downloads {size(summary.downloads)}."
        yield f"### Components\n\n{table(header, rows, right=[2, 3, 4, 5])}\n\n{total}"
    if summary.owners:
        rows2 = [
            (
                escape(owner.owner),
                owner.component or "",
                f"{owner.files:,}",
                size(owner.size),
                share(owner.size, summary.tree_size),
            )
            for owner in top(summary.owners, OWNERS)
        ]
        head = f"### Tree: {size(summary.tree_size)} in {plural(summary.tree_files, 'file')}"
        yield f"{head}\n\n{table(('owner', 'component', 'files', 'size', 'share'), rows2, right=[2, 3, 4])}"
    if summary.assets:
        yield "### Assets\n\n" + table(
            ("asset", "size"), [(code(asset.name), size(asset.size)) for asset in summary.assets], right=[1]
        )
    steps = [
        (escape(step.name), duration(step.seconds), "yes" if step.reused else "", escape(step.note))
        for step in summary.steps
    ]
    yield "### Steps\n\n" + table(("step", "time", "reused", "note"), steps, right=[1])
    pairs = [*((escape(key), escape(value)) for key, value in summary.facts.items())]
    pairs += [(escape(place.what), code(place.path)) for place in summary.places]
    if pairs:
        yield "### Facts and places\n\n" + table(("what", "value"), pairs)
    for name_, report in summary.verifications.items():
        opened = " open" if not report.passed else ""
        title = f"<summary>Verification of {escape(name_)}: {verdict(report)}</summary>"
        yield f"<details{opened}>{title}\n\n{verification_markdown(report)}\n</details>"


def summary_markdown(summary: BuildSummary) -> str:
    """The summary as one Markdown text."""
    return "\n\n".join(_sections(summary)) + "\n"


def append_to_job_page(summary: BuildSummary, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Append the summary to the job page when the CI provider gives one.

    Args:
        summary: The summary.
        environment: Where the provider names the file.

    Returns:
        The file, or none when there is no job page.

    Raises:
        OSError: The file cannot be written.
    """
    return append_markdown(summary_markdown(summary), environment)


def append_markdown(text: str, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Append a text to the job page when the CI provider gives one; see :func:`append_to_job_page`."""
    name = environment.get(SUMMARY_VARIABLE)
    if not name:
        return None
    path = Path(name)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(text)
    return path
