"""distribution 3.1 and the tools that people use with registries: crane, regctl, skopeo, podman, containerd.

They read what modelctl pushed, and modelctl reads what they copied. `make build/go.stamp` builds those written in Go.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import stamina

from e2e.command import files, isolated_environment, manifest_of, modelctl, run, sha256, tar_files
from e2e.containers import Podman, containerd, isolated
from tests.conformance.stores import StoreConformance
