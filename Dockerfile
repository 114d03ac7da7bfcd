# Three images: worker (also the gateway), flower, and local (the platform on this machine, for trials).
#   docker build --target worker -t hash-worker .
# All packages are wheels, checked against the hashes in requirements/. They go into a virtual environment that the
# images only copy, so that no pip, cache or compiler of ours is in them.

FROM python:3.13-slim AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ONLY_BINARY=:all: PIP_REQUIRE_HASHES=1 \
    PIP_ROOT_USER_ACTION=ignore
# Without pip; that of the base image fills it.
RUN python -m venv --without-pip /opt/hash-worker
ENV PIP_PYTHON=/opt/hash-worker/bin/python
COPY requirements/worker.txt requirements/
RUN pip install -r requirements/worker.txt

# What the other two have beside it: --prefix takes what is installed already as given.
FROM packages AS packages-flower
COPY requirements/flower.txt requirements/
RUN pip install --prefix /added -r requirements/flower.txt

FROM packages AS packages-local
COPY requirements/local.txt requirements/
RUN pip install --prefix /added -r requirements/local.txt

# The project comes apart from its packages: an upgrade then moves a megabyte.
FROM packages AS project
WORKDIR /project
COPY requirements/build.txt requirements/
RUN python -m venv --without-pip /build && pip --python /build/bin/python install -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY worker worker
RUN /build/bin/python -m hatchling build -t wheel \
 && PIP_REQUIRE_HASHES=0 pip install --no-deps --no-index --prefix /added dist/*.whl

FROM python:3.13-slim AS base
# The base image has no bytecode of the standard library, and a read-only root keeps none: without it each command,
# hashing process and health check would compile what it imports (0.6 s instead of 0.25 s for --version).
RUN python -m compileall -q -x '/(ensurepip|idlelib|site-packages|test|turtledemo)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
 && groupadd --gid 10001 hash-worker \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin hash-worker
COPY --from=packages /opt/hash-worker /opt/hash-worker
# Nothing is written but to /tmp.
ENV PATH=/opt/hash-worker/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["hash-worker"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(os.environ['HEALTH_URL'], timeout=4)"]
ARG VERSION=unknown
LABEL org.opencontainers.image.title="hash-worker" \
      org.opencontainers.image.description="Hashes the files of a LIBSAFE Go platform" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION"

FROM base AS flower
USER 0:0
# A volume takes over whose it is.
RUN install -d -o 10001 -g 10001 /data
USER 10001:10001
COPY --from=packages-flower /added /opt/hash-worker
COPY --from=project /added /opt/hash-worker
ENV HASH_WORKER_FLOWER__HOST=0.0.0.0 HASH_WORKER_FLOWER__DATABASE=/data/flower \
    HEALTH_URL=http://127.0.0.1:5555/healthcheck
EXPOSE 5555
CMD ["flower"]

FROM base AS local
COPY --from=packages-local /added /opt/hash-worker
COPY --from=project /added /opt/hash-worker
ENV HEALTH_URL=http://127.0.0.1:8000/api/health
EXPOSE 8000 9000
CMD ["local"]

# The last one, and so what `docker build .` makes.
FROM base AS worker
COPY --from=project /added /opt/hash-worker
ENV HASH_WORKER_HEALTH__HOST=0.0.0.0 HASH_WORKER_HEALTH__PORT=9090 HEALTH_URL=http://127.0.0.1:9090/health/live
EXPOSE 9090
CMD ["run"]
