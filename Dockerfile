# The image of modelctl: Debian's Python, the wheels of build/wheels, and nothing to build with. See docs/image.md.
#   make wheels && docker build -t modelctl .

ARG BASE=docker.io/library/debian:bookworm-slim
FROM ${BASE}

# The base that `make image` gives has these, and no apt. numpy's wheel needs libstdc++.
RUN command -v python3 >/dev/null || { \
      apt-get update -qq \
   && apt-get install -y -qq --no-install-recommends ca-certificates libstdc++6 python3 \
   && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/*; }

# pip runs from its wheel and is not installed. Bytecode that names no source's time keeps layers equal and starts short.
RUN --mount=type=bind,source=build/wheels,target=/wheels \
    python3 -m venv --without-pip /opt/modelctl \
 && PYTHONPATH=$(echo /wheels/pip-*.whl) /opt/modelctl/bin/python -m pip install -q --no-cache-dir --no-compile \
      --no-index --find-links /wheels 'modelctl[all]' \
 && PYTHONHASHSEED=0 python3 -m compileall -q --invalidation-mode unchecked-hash /opt/modelctl/lib \
 && ln -s /opt/modelctl/bin/modelctl /opt/modelctl/bin/modelctl-step /usr/local/bin \
 && echo modelctl:x:65532: >>/etc/group \
 && echo modelctl:x:65532:65532::/home/modelctl:/bin/sh >>/etc/passwd \
 && install -d -o 65532 -g 65532 /home/modelctl

ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LABEL org.opencontainers.image.title=modelctl org.opencontainers.image.licenses=Apache-2.0
USER 65532:65532
ENTRYPOINT ["modelctl"]
