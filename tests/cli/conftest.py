from pathlib import Path

import pytest

from tests.cli.program import run
from tests.models import write_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that no test changes."""
    return write_model(tmp_path_factory.mktemp("cli") / "model", shards=2, size=1000)


@pytest.fixture(scope="session")
def store(model: Path) -> str:
    """A store with that model under `v1`; no test changes it."""
    reference = f"oci:{model.parent / 'store'}"
    run("pack", model, f"{reference}:v1").check_returncode()
    return reference
