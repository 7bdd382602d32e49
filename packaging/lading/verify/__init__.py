"""Checks with verdicts and evidence: of packed assets, of a tree, of a running server."""

from __future__ import annotations

from lading.verify.record import Check, Subject, Verification
from lading.verify.served import verify_server
from lading.verify.subject import TREE_RULES, verify_packed, verify_tree

__all__ = ["TREE_RULES", "Check", "Subject", "Verification", "verify_packed", "verify_server", "verify_tree"]
