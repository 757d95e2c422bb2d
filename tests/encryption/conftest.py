"""Tests of encrypted files; without the library there is nothing to test."""

from testing.requirements import missing

collect_ignore_glob = ["test_*.py"] if missing("encryption") else []
