FROM python:3.13-slim-bookworm

# The process writes under /var/lib/flotilla alone: run it with --read-only and a volume there (nothing on SQLite survives without).
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8000 \
    FLOTILLA_DATA_DIR=/var/lib/flotilla

RUN groupadd --system --gid 10001 flotilla \
 && useradd --system --uid 10001 --gid flotilla --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin flotilla \
 && install --directory --owner=flotilla --group=flotilla --mode=0700 /var/lib/flotilla

# Before the code, so that a change of code installs nothing again.
COPY requirements.lock /app/
RUN pip install --no-cache-dir --disable-pip-version-check --only-binary=:all: --require-hashes -r /app/requirements.lock

COPY . /app
WORKDIR /app
RUN python -m compileall -q /app

USER 10001:10001
VOLUME /var/lib/flotilla
EXPOSE 8000
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/healthz\", timeout=2)"]

CMD ["python", "-m", "cli", "serve"]
