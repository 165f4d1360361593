"""The same model where models live: at each kind of source, a small server that counts what it sends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fakes import fault_proxy as proxies
from tests.fakes.fault_proxy import fault_proxy
from tests.fakes.hub import Cdn
from tests.fakes.huggingface import HuggingFace, hugging_face
from tests.fakes.modelscope import ModelScope, model_scope
from tests.fakes.oss import KEY_ID, SECRET, Fault, Oss, oss
from tests.fakes.oss_signatures import REGION

BUCKET, PREFIX, NAME, TOKEN = "models-poc", "qwen/v1/", "org/model", "s3cret-t0ken-0f-the-hub"


@dataclass(frozen=True)
class Place:
    """A source's server: how the model there is named, by whom and with which `secrets` it is asked for.

    `put` makes the model of these files and no others. `sent` is how many bytes of files went out. The next read of
    more than 1 MiB is struck: by `cut`, which hangs up after so many bytes, or by `refuse`, with 503. `delay` makes
    each request take longer [s].
    """

    server: Oss | HuggingFace | ModelScope
    url: str
    variables: Mapping[str, str]
    secrets: tuple[str, ...]
    put: Callable[[Mapping[str, bytes]], object]
    sent: Callable[[], int]
    cut: Callable[[int], None]
    refuse: Callable[[], None]
    delay: Callable[[float], None]


@contextmanager
def at_oss(folder: Path) -> Iterator[Place]:
    with oss() as server:

        def put(files: Mapping[str, bytes]) -> None:
            for path, data in files.items():
                server.put(BUCKET, PREFIX + path, data)
            for key in server.buckets[BUCKET].keys() - {PREFIX + path for path in files}:
                del server.buckets[BUCKET][key]

        def delay(seconds: float) -> None:
            server.latency_s = seconds

        part = "bytes=0-4194303"
        yield Place(
            server,
            f"oss://{BUCKET}/{PREFIX}",
            {
                "OSS_ENDPOINT": server.url,
                "OSS_REGION": REGION,
                "OSS_ACCESS_KEY_ID": KEY_ID,
                "OSS_ACCESS_KEY_SECRET": SECRET,
                "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
            },
            (KEY_ID, SECRET),
            put,
            lambda: server.sent,
            lambda at: server.faults.append(Fault(part, cut=at)),
            lambda: server.faults.append(Fault(part, status=503, code="RequestThrottled")),
            delay,
        )


@contextmanager
def at_hf(folder: Path) -> Iterator[Place]:
    with hugging_face() as server, _before(server.cdn) as struck:
        variables = {"HF_ENDPOINT": server.url, "HF_TOKEN": TOKEN, "HF_HOME": str(folder)}
        yield _hub(server, f"hf://{NAME}", variables, struck)


@contextmanager
def at_modelscope(folder: Path) -> Iterator[Place]:
    with model_scope() as server, _before(server.cdn) as struck:
        variables = {
            "MODELSCOPE_ENDPOINT": server.url,
            "MODELSCOPE_API_TOKEN": TOKEN,
            "MODELSCOPE_HOME": str(folder),
        }
        yield _hub(server, f"modelscope://{NAME}", variables, struck)


@contextmanager
def _before(cdn: Cdn) -> Iterator[list[proxies.Fault]]:
    """Put a proxy before a hub's storage; yield its faults."""
    with fault_proxy(cdn.url.removeprefix("http://")) as proxy:
        cdn.url = f"http://{proxy.host}"
        yield proxy.faults


def _hub(
    server: HuggingFace | ModelScope, url: str, variables: Mapping[str, str], struck: list[proxies.Fault]
) -> Place:
    server.tokens[TOKEN] = {NAME}

    def put(files: Mapping[str, bytes]) -> None:
        if NAME in server.repositories:
            server.commit(NAME, files)
        else:
            server.put(NAME, files, private=True)

    def delay(seconds: float) -> None:
        server.cdn.latency_s = seconds

    # Header and length of a shard are read first.
    return Place(
        server,
        url,
        variables,
        (TOKEN,),
        put,
        lambda: server.cdn.sent,
        lambda at: struck.append(proxies.Fault("^GET", "cut-answer", at=at, skip=2)),
        lambda: struck.append(proxies.Fault("^GET", "status", status=503, skip=2)),
        delay,
    )


PLACES: Mapping[str, Callable[[Path], AbstractContextManager[Place]]] = {
    "oss": at_oss,
    "modelscope": at_modelscope,
    "hf": at_hf,
}
