"""Uploads to distribution 2.8, which forgets where an upload stood: what broke begins again."""

from __future__ import annotations

from tests.conformance.uploads import UploadConformance


class TestDistribution2(UploadConformance):
    """The fixtures are those of all tests."""
