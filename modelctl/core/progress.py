"""What a long job tells whoever watches it."""

from __future__ import annotations


class Progress:
    """A watcher that shows nothing; a face overrides what it shows.

    Thread-safe in every implementation: workers call it side by side.
    """

    def expect(self, files: int, size: int) -> None:
        """`files` files of `size` bytes in all lie ahead."""

    def begin(self, name: str, size: int) -> None:
        """A part of `size` bytes is being worked on: a file, or a range of one."""

    def advance(self, name: str, size: int) -> None:
        """`size` more bytes of it are done."""

    def end(self, name: str) -> None:
        """The part is over."""

    def keep(self, path: str, size: int) -> None:
        """The file `path` of `size` bytes is proved, and where it belongs."""
