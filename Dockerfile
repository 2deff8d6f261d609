# syntax=docker/dockerfile:1
# One image for every part: `docker run quayflow ingest`, `… api`, `… simulate`.

# --- The page ---------------------------------------------------------------------------------------------------
FROM node:22-bookworm-slim AS page
WORKDIR /src/web
COPY web/package.json web/package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY web ./
RUN npm run build

# --- The packages: exactly those of the lock file, then quayflow itself with the page inside --------------------------
FROM python:3.13-slim-bookworm AS packages
RUN python -m venv /opt/quayflow
ENV PATH=/opt/quayflow/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements.lock ./
RUN pip install --require-hashes --no-deps -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY devices devices
COPY analytics analytics
COPY store store
COPY ingest ingest
COPY api api
COPY simulators simulators
COPY quayflow quayflow
COPY --from=page /src/api/static api/static
RUN pip install --no-build-isolation --no-deps .

# --- What runs --------------------------------------------------------------------------------------------------
FROM python:3.13-slim-bookworm
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin quayflow \
    && install --directory --owner quayflow --group quayflow /data
COPY --from=packages /opt/quayflow /opt/quayflow
ENV PATH=/opt/quayflow/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    QUAYFLOW_DATA=/data \
    QUAYFLOW_HOST=0.0.0.0 \
    QUAYFLOW_PORT=8080
USER quayflow
WORKDIR /home/quayflow
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
# For the API; a part without HTTP switches it off (docker-compose.yml does).
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"QUAYFLOW_PORT\"]}/healthz', timeout=2)"]
ENTRYPOINT ["quayflow"]
CMD ["api"]
