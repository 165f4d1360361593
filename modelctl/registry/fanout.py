"""Several repositories as one store: layers go to all of them, and are read from whichever has them.

Documents and manifests stay in memory, and so do tags: whoever delivers them checks first what each repository has.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from modelctl.core.errors import ModelctlError, NotFound
from modelctl.core.protocols import Blob, BytesBlob, Fetcher, Upload
from modelctl.core.types import Bytes, Checkpoint, Descriptor, Digest
from modelctl.registry.copies import Copies
from modelctl.registry.feed import Crew, Feed, Member
from modelctl.registry.referrers import referrer_of

Answer = TypeVar("Answer")

ANSWER_S = 5.0
"""Who has not answered so long after another did is asked nothing more [s]."""


class FanOut:
    """The repositories of a crew, as a `Store`. Thread-safe. `read` counts what was read of them [bytes]."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self.read = 0
        self._answered: set[Member] = set()
        self._silent: set[Member] = set()
        self._owed: dict[Member, Future[Any]] = {}
        self._documents: dict[Digest, bytes] = {}
        self.manifests: dict[Digest, tuple[Descriptor, bytes]] = {}
        self.tagged: dict[str, Descriptor] = {}

    def __str__(self) -> str:
        return ", ".join(str(member.store) for member in self._crew.members)

    def has(self, descriptor: Descriptor) -> bool:
        """Say whether one of them has a blob."""

        def has(member: Member) -> bool:
            there = member.store.has(descriptor)
            if there:
                self._crew.note(descriptor.digest, member)
            return there

        return descriptor.digest in self._documents or self._ask(has, bool)

    def open(self, descriptor: Descriptor) -> Blob:
        """Open a blob: where it is known to be, or where it may be, of those first who have answered before."""
        raw = self._documents.get(descriptor.digest) or self.manifests.get(descriptor.digest, (None, b""))[1]
        if raw:
            return BytesBlob(raw)
        holders = self._crew.holders(descriptor.digest)
        others = sorted(self._crew.active(), key=lambda member: (member in self._silent, member not in self._answered))
        stores = [one.store for one in (*holders, *(one for one in others if one not in holders))]
        return Copies(descriptor, stores, self._count)

    def _count(self, _store: Fetcher, size: int) -> None:
        with self._crew.lock:
            self.read += size

    @contextmanager
    def upload(self, blob: Blob, name: str = "", /) -> Iterator[Upload]:
        """Start to write a blob to all of them; a document is only kept."""
        if isinstance(blob, BytesBlob):
            yield _Document(self._documents)
            return
        feed = Feed(self._crew, blob, name)
        try:
            yield feed
        finally:
            feed.close()

    def put_manifest(self, manifest: Descriptor, raw: bytes) -> None:
        self.manifests[manifest.digest] = manifest, raw

    def referrers(self, subject: Digest, artifact_type: str = "") -> list[Descriptor]:
        """Return who names `subject`: who was put here, if it was too; else as one of the repositories says."""
        if subject not in self.manifests:
            return self._ask(lambda member: member.store.referrers(subject, artifact_type), bool)
        named = [referrer_of(manifest, raw) for manifest, raw in self.manifests.values()]
        ours = [one.descriptor for one in named if one and one.subject == subject]
        return [one for one in ours if artifact_type in ("", one.artifact_type)]

    def resolve(self, name: str) -> Descriptor:
        """Return what `name` is here, else what it is where somebody has it."""

        def resolve(member: Member) -> Descriptor:
            found = member.store.resolve(name)
            self._crew.note(found.digest, member)
            return found

        return self.tagged.get(name) or self._ask(resolve)

    def tags(self) -> list[str]:
        return list(self.tagged)

    def tag(self, manifest: Descriptor, name: str) -> None:
        self.tagged[name] = manifest

    def untag(self, name: str) -> list[str]:
        return [name] if self.tagged.pop(name, None) else []

    def _ask(
        self, question: Callable[[Member], Answer], is_enough: Callable[[Answer], bool] = lambda _answer: True
    ) -> Answer:
        """Ask all at once, but for those who still owe an answer, who are asked when no other one is enough.

        Returns:
            The first answer that is enough, else any.

        Raises:
            NotFound: That is what all say. ModelctlError: Nobody answered; as `Crew.active`.
        """
        active = self._crew.active()
        asked = [member for member in active if member not in self._silent] or active
        owing = [member for member in asked if member in self._owed and not self._owed[member].done()]
        answers: list[Answer | NotFound] = []
        for members in ([member for member in asked if member not in owing], owing):
            with closing(self._answers(question, members, ANSWER_S if answers else None)) as coming:
                for answer in coming:
                    if not isinstance(answer, NotFound) and is_enough(answer):
                        return answer
                    answers.append(answer)
        if not answers:
            return self._ask(question, is_enough)
        found = [answer for answer in answers if not isinstance(answer, NotFound)]
        if found:
            return found[0]
        raise next(answer for answer in answers if isinstance(answer, NotFound))

    def _answers(
        self, question: Callable[[Member], Answer], members: Sequence[Member], late_s: float | None
    ) -> Generator[Answer | NotFound, None, None]:
        """Yield answers as they come. Who gives none for `late_s` is asked no more; who is not waited for owes it."""
        pool = ThreadPoolExecutor(max(1, len(members)))
        futures = {pool.submit(_answer, question, member): member for member in members}
        pool.shutdown(wait=False)
        waiting = set(futures)
        try:
            while waiting:
                done, waiting = wait(waiting, late_s, FIRST_COMPLETED)
                if not done:
                    self._silent.update(futures[future] for future in waiting)
                    return
                for future in done:
                    answer = future.result()
                    if answer is not None:
                        late_s = ANSWER_S
                        self._answered.add(futures[future])
                        yield answer
        finally:
            self._owed.update((futures[future], future) for future in waiting)


def _answer(question: Callable[[Member], Answer], member: Member) -> Answer | NotFound | None:
    """Return a member's answer; None of one that has none, which takes part no more."""
    try:
        return question(member)
    except NotFound as error:
        return error
    except ModelctlError as error:
        member.error = member.error or error
        return None


class _Document:
    """An `Upload` of something small, kept in memory."""

    saved: Sequence[Checkpoint] = ()

    def __init__(self, documents: dict[Digest, bytes]) -> None:
        self._documents, self._data = documents, bytearray()

    def write(self, data: Bytes) -> None:
        self._data += data

    def save(self, _checkpoint: Checkpoint) -> None:
        """It is written at once."""

    def commit(self, digest: Digest) -> bool:
        self._documents[digest] = bytes(self._data)
        return True
