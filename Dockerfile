# Two stages: the first installs the pinned dependencies and builds the wheel, the second only runs.
FROM python:3.12-slim AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/sluice
COPY requirements.lock ./
RUN /opt/sluice/bin/python -m pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY migrations migrations
COPY docs docs
COPY openapi.json openapi.json
COPY app app
RUN /opt/sluice/bin/python -m pip install --no-deps --no-build-isolation .

FROM python:3.12-slim
RUN useradd --system --user-group --home-dir /var/lib/sluice --create-home sluice
COPY --from=build /opt/sluice /opt/sluice
ENV PATH=/opt/sluice/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SLUICE_HOST=0.0.0.0 \
    SLUICE_DATA_DIR=/var/lib/sluice/data
USER sluice
WORKDIR /var/lib/sluice
# The embedded PostgreSQL's data; unused where DATABASE_URL is set.
VOLUME /var/lib/sluice
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('SLUICE_PORT', '8000')}/readyz\", timeout=2)"]
CMD ["sluice", "serve"]
