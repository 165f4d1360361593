"""What is in `kube/`: whole objects, which `kubectl apply` takes as they are."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import yaml

from modelctl.cluster.labels import Object
from modelctl.core.assets import asset


def load_template(name: str) -> list[Object]:
    """Return the objects of `kube/NAME.yaml`."""
    return deepcopy(_read(name))


@cache
def _read(name: str) -> list[Object]:
    """Read them once: thousands of nodes have each an object of their own, and YAML is slow."""
    return list(yaml.safe_load_all(asset(f"kube/{name}.yaml").read_text()))
