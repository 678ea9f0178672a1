# faceswapd as a container: no compiler, no torch, no root; runs with a read-only root.
#   docker build -t faceswapd:cpu .
#   docker build -t faceswapd:gpu --build-arg DEVICE=gpu .
ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
# cpu or gpu: which onnxruntime wheel. The gpu wheel brings CUDA and cuDNN with it; the host needs only a driver.
ARG DEVICE=cpu
# The bundle inside the image; compose mounts one over it.
ARG BUNDLE=bundles/demo
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# The dependencies first, so that this layer is kept until they change. Only files whose hash is in the lock are taken.
COPY deploy/locks deploy/locks
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --require-hashes -r deploy/locks/${DEVICE}.txt \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes -r deploy/locks/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY faceswap faceswap
COPY service service
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /opt/wheel . \
 && /opt/venv/bin/pip install --no-deps --no-index /opt/wheel/*.whl && /opt/venv/bin/pip uninstall -y pip
# Readable for any user, whatever the umask of the checkout was.
COPY ${BUNDLE} /app/bundle
RUN chmod -R a+rX /app /opt/venv

FROM python:${PYTHON_VERSION}-slim-bookworm
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="faceswapd" \
      org.opencontainers.image.description="Face swapping as a service" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# onnxruntime 1.29 and newer reports its sessions to its makers unless told not to. The NVIDIA lines are for
# NVIDIA's container runtime; nothing else reads them.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1 \
    FACESWAPD_HOST=0.0.0.0 \
    FACESWAPD_PORT=8000 \
    FACESWAPD_BUNDLE=/app/bundle \
    FACESWAPD_LOG_FORMAT=json \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-m", "service.healthcheck"]
CMD ["python", "-m", "service"]
