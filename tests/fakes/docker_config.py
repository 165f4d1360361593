"""Docker's config file and its credential helpers: a helper that works, and what `modelctl` finds."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from modelctl.registry.credentials import find_credentials

HOST = "registry.example.com:5000"
AUTH = base64.b64encode(b"alice:s3:cret").decode()
HELPER = """\
#!/usr/bin/env python3
import json, pathlib, sys
kept = pathlib.Path({kept!r})
store = json.loads(kept.read_text()) if kept.exists() else {{}}
verb, text = sys.argv[1], sys.stdin.read()
if verb == "get":
    if text.strip() not in store:
        print("credentials not found in native keychain")
        sys.exit(1)
    print(json.dumps(store[text.strip()]))
elif verb == "store":
    entry = json.loads(text)
    kept.write_text(json.dumps(store | {{entry["ServerURL"]: entry}}))
elif verb == "erase":
    store.pop(text.strip(), None)
    kept.write_text(json.dumps(store))
"""


def install(folder: Path, name: str, text: str, mode: int = 0o755) -> None:
    program = folder / f"docker-credential-{name}"
    program.write_text(text)
    program.chmod(mode)


def write(path: Path, **document: Any) -> None:
    path.write_text(json.dumps(document))


def found(registry: str = HOST) -> tuple[str, str, str] | None:
    credentials = find_credentials(registry)
    return credentials and (credentials.user, credentials.password, credentials.identity_token)
