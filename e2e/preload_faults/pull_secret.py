"""A secret with which pods pull from the registry that asks for a password."""

from __future__ import annotations

from dataclasses import dataclass

from e2e.kubernetes.namespace import kubectl


@dataclass(frozen=True)
class PullSecret:
    """One of a namespace; it need not be there."""

    namespace: str
    name: str
    registry: str

    def make(self, password: str = "test") -> None:
        login = (f"--docker-server={self.registry}", "--docker-username=test", f"--docker-password={password}")
        kubectl("-n", self.namespace, "create", "secret", "docker-registry", self.name, *login)

    def remove(self) -> None:
        kubectl("-n", self.namespace, "delete", "secret", self.name, "--ignore-not-found")

    def mend(self) -> None:
        self.remove()
        self.make()
