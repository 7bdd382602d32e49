"""Examine a machine: what it is, which build fits, and what would stand in the way of an install."""

from __future__ import annotations

from lading.doctor.examine import Question, examine
from lading.doctor.record import DoctorReport

__all__ = ["DoctorReport", "Question", "examine"]
