"""Records for people: on a terminal and as Markdown. JSON is the record itself."""

from __future__ import annotations

from lading.report.summary import BuildSummary, OwnerSize, Part, Place, Step, SummaryAsset, sizes_by_owner
from lading.report.summary_markdown import append_to_job_page, summary_markdown
from lading.report.summary_terminal import print_summary
from lading.report.verification import print_verification, verification_markdown

__all__ = [
    "BuildSummary",
    "OwnerSize",
    "Part",
    "Place",
    "Step",
    "SummaryAsset",
    "append_to_job_page",
    "print_summary",
    "print_verification",
    "sizes_by_owner",
    "summary_markdown",
    "verification_markdown",
]
