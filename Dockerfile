# ledgate as a server. Without torch: what runs here is ONNX Runtime, gRPC and our own code.
#
#   docker build -t ledgate .                                                for NVIDIA GPUs (and the CPU)
#   docker build -t ledgate:cpu --build-arg BASE_IMAGE=ubuntu:24.04 .   for the CPU alone
#   docker run --gpus all -p 50051:50051 -v "$PWD/demo/bundle:/bundles/model:ro" ledgate
#
# ONNX Runtime is built for CUDA 13 and cuDNN 9, which this base brings. Another one has to be an
# Ubuntu or Debian whose python3 is 3.11, 3.12 or 3.13.
ARG BASE_IMAGE=nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04

FROM ${BASE_IMAGE} AS builder
# The base fixes the distribution's release, and with it what these names mean.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
ENV PIP_NO_CACHE_DIR=1
COPY requirements/build.lock requirements/serve.lock requirements/
COPY docker/install docker/
RUN docker/install tools /opt/tools && docker/install packages /opt/tools /opt/ledgate
COPY . .
RUN docker/install ledgate /opt/tools /opt/ledgate

FROM ${BASE_IMAGE}
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 ledgate \
 && useradd --uid 10001 --gid ledgate --no-create-home --shell /usr/sbin/nologin ledgate
COPY --from=builder /opt/ledgate /opt/ledgate
COPY docker/healthcheck.py /opt/ledgate/healthcheck.py
# /tmp is the one place to write, so that the rest may be mounted read-only.
ENV PATH=/opt/ledgate/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    LEDGATE_ADDRESS=localhost:50051
USER 10001:10001
WORKDIR /bundles
EXPOSE 50051
STOPSIGNAL SIGTERM
# A server that listens elsewhere is found with `--env LEDGATE_ADDRESS=localhost:PORT`.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["/opt/ledgate/bin/python", "/opt/ledgate/healthcheck.py"]
ENTRYPOINT ["ledgate"]
CMD ["serve", "/bundles/model", "--host", "0.0.0.0"]
