# syntax=docker/dockerfile:1
# One image for every process of the fleet: `docker build --tag pagetrail:0.1.0 .`
# The digest is the index of this tag, for every platform. To update, change the tag, and use the digest that
# `docker buildx imagetools inspect python:TAG` shows.
ARG PYTHON=python:3.13.15-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285

FROM ${PYTHON} AS build
# PARQUET=yes keeps pyarrow (165 MB), which only `pagetrail artifact export --format parquet` needs.
ARG PARQUET=no
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/pagetrail
COPY requirements.lock /src/
RUN pip --python /opt/pagetrail/bin/python install --require-hashes --only-binary :all: -r /src/requirements.lock
COPY . /src/
# Built with the tools in the lock, which are removed afterwards.
RUN pip --python /opt/pagetrail/bin/python install --no-deps --no-build-isolation /src \
 && pip --python /opt/pagetrail/bin/python uninstall --yes hatchling editables pathspec pluggy trove-classifiers \
 && { [ "${PARQUET}" = yes ] || pip --python /opt/pagetrail/bin/python uninstall --yes pyarrow; }

FROM ${PYTHON}
LABEL org.opencontainers.image.title="pagetrail" \
      org.opencontainers.image.description="Compliance evidence from many customers' PagerDuty accounts" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 pagetrail \
 && useradd --uid 10001 --gid 10001 --no-log-init --home-dir /var/lib/pagetrail --shell /usr/sbin/nologin pagetrail \
 && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/pagetrail
COPY --from=build /opt/pagetrail /opt/pagetrail
# The root file system may be read-only: processes write only to TMPDIR, and Flower and the command line to the data
# directory. With many threads, glibc's many arenas keep unused memory, hence MALLOC_ARENA_MAX.
ENV PATH=/opt/pagetrail/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MALLOC_ARENA_MAX=2 \
    PAGETRAIL_DATA_DIR=/var/lib/pagetrail
# Celery imports from here first, so this directory must not hold modules.
WORKDIR /var/lib/pagetrail
USER 10001:10001
# For workers and beat. A container that runs another program needs its own check.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=4 CMD ["python", "-m", "workers.health", "live"]
CMD ["pagetrail", "--help"]
