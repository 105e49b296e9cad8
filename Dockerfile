# One image for web, worker, beat and migrate; docker-compose.yml gives each its command.

FROM python:3.11-slim AS build
WORKDIR /app
RUN python -m venv /venv
ENV PATH="/venv/bin:$PATH"
COPY requirements.lock .
RUN pip install --no-cache-dir --require-hashes --no-deps --only-binary :all: -r requirements.lock
COPY manage.py ./
COPY newsletter newsletter
COPY subscribers subscribers
COPY templates templates
# The keys that settings make where none are given must not end in the image: they go to a folder left behind.
RUN DATA_DIR=/tmp/build python manage.py collectstatic --noinput && python -m compileall -q newsletter subscribers

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /app masthead && install --directory --owner=masthead /app/var
WORKDIR /app
COPY --from=build /venv /venv
COPY --from=build /app /app
ENV PATH="/venv/bin:$PATH" PYTHONUNBUFFERED=1 DATA_DIR=/app/var
USER masthead
VOLUME /app/var
EXPOSE 8000
CMD ["granian", "--interface", "wsgi", "newsletter.wsgi:application", "--host", "0.0.0.0", "--port", "8000", "--workers", "2"]
HEALTHCHECK --interval=30s --timeout=15s --start-period=30s CMD ["python", "manage.py", "health", "web"]
