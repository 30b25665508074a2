# One image runs every part of Baton: serve, jobs, and the MLflow server.
FROM python:3.11-slim AS packages
COPY requirements.txt .
RUN python -m venv /packages \
    && /packages/bin/pip install --no-cache-dir --require-hashes -r requirements.txt \
    && /packages/bin/python -m compileall -q /packages/lib || true

FROM python:3.11-slim
ENV PATH=/packages/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BATON_HOME=/home/baton/.baton \
    BATON_HOST=0.0.0.0 \
    MLFLOW_DISABLE_TELEMETRY=true \
    GIT_PYTHON_REFRESH=quiet
RUN useradd --uid 10001 --create-home baton \
    && install --directory --owner baton /home/baton/.baton /mlflow
COPY --from=packages /packages /packages
WORKDIR /app
COPY learning learning
COPY experiments experiments
COPY service service
COPY deploy deploy
RUN python -m compileall -q learning experiments service

USER 10001
EXPOSE 8000 8001 5000
CMD ["python", "-m", "service", "serve"]
