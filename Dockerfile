# The image of a worker: the agent, the training program, TensorBoard, and MNIST. Fixed uid, no compiler, no cache.
#
#   docker build -t REGISTRY/mnist-train:1.0.0 .                                  CPU
#   docker build -t REGISTRY/mnist-train:1.0.0-gpu --build-arg ACCELERATOR=gpu .  NVIDIA GPU
#
# With --build-arg LINE=-current either has the newest TensorFlow; its tag then ends with -current, by which the launcher
# knows what its GPUs have to be. `--platform linux/arm64` builds the CPU image for that.
ARG BASE=docker.io/library/python:3.11.14-slim-bookworm

FROM ${BASE}
# GKE mounts the driver's libcuda.so.1 here when a container starts, too late for the loader's cache (see ldconfig below).
# No module is ever taken from the working directory or from a home: those hold data, some of it from a bucket.
ENV PATH=/opt/venv/bin:$PATH \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64 \
    PYTHONUNBUFFERED=1 \
    PYTHONSAFEPATH=1 \
    PYTHONNOUSERSITE=1 \
    HOME=/tmp

# "cpu" or "gpu": tensorflow-cpu, or tensorflow[and-cuda].
ARG ACCELERATOR=cpu
# The locked dependencies come before the code, so that a change of code rebuilds (and moves) a small layer only. Wheels
# alone, of which each has the checksum that it had when they were locked (`make requirements`). All that is needed is
# among them, as `pip check` sees; pip's own look at that takes a locked package for another one than its extra.
# CUDA's libraries from pip lie where the loader does not look (tensorflow#63362): its cache is told of them, which
# takes a wildcard, as LD_LIBRARY_PATH does not.
ARG LINE=
# "amd64" or "arm64", set by the builder itself: BuildKit (`docker build`, since 23.0) or buildah.
ARG TARGETARCH
COPY requirements/${ACCELERATOR}${LINE}-${TARGETARCH}.txt /opt/requirements.txt
RUN python3 -m venv /opt/venv \
 && pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: --requirement /opt/requirements.txt \
 && pip check \
 && printf '%s\n' /opt/venv/lib/python3.*/site-packages/nvidia/*/lib >/etc/ld.so.conf.d/nvidia.conf \
 && ldconfig \
 && printf 'trainer:x:10001:10001::/tmp:/usr/sbin/nologin\n' >>/etc/passwd

COPY pyproject.toml setup.py README.md LICENSE /opt/trainer/
COPY trainer /opt/trainer/trainer
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation /opt/trainer \
 && rm -rf /opt/trainer

ARG BASE
ARG VERSION=dev
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="trainer" \
      org.opencontainers.image.description="Distributed training of TensorFlow models that survives what happens to its workers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://trainer.example/trainer" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE}"

# Nobody can write the working directory; without --run_dir a run is in its logs/, which is /tmp.
RUN mkdir /work && ln -s /tmp /work/logs

USER 10001:10001
WORKDIR /work
EXPOSE 2222 6006 8080
# Flags (or nothing) are the agent's; anything else is a command: `docker run IMAGE python -m trainer.board --logdir ...`
# (plain `tensorboard` has the projector, and all that its plugin for profiles can do).
ENTRYPOINT ["/bin/sh", "-c", "case ${1:--} in -*) set -- python -m trainer.agent \"$@\" ;; esac; exec \"$@\"", "trainer"]
