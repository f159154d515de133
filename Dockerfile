# syntax=docker/dockerfile:1
# One image for every process of the fleet: `docker build --tag pagetrail:0.1.0 .`
# The digest is the index of this tag, for every platform. To move on, change the tag and take the digest that
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
# Built with what the lock holds, which is not left behind.
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
# The root file system may be read-only: only TMPDIR is written, and the data directory by Flower and the command line.
# Many threads in glibc's many arenas keep memory that none of them uses.
ENV PATH=/opt/pagetrail/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MALLOC_ARENA_MAX=2 \
    PAGETRAIL_DATA_DIR=/var/lib/pagetrail
# Celery imports from here first, so it holds no modules.
WORKDIR /var/lib/pagetrail
USER 10001:10001
# Right for workers and beat; what runs another program brings a check of its own.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=4 CMD ["python", "-m", "workers.health", "live"]
CMD ["pagetrail", "--help"]
