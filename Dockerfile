# One image runs every part of Baton: serve, jobs, and the MLflow server.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 \
    BATON_HOME=/data \
    BATON_HOST=0.0.0.0 \
    MLFLOW_DISABLE_TELEMETRY=true \
    GIT_PYTHON_REFRESH=quiet

WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir --require-hashes -r requirements.txt

COPY learning learning
COPY experiments experiments
COPY service service
RUN python -m compileall -q learning experiments service \
    && useradd --uid 10001 --create-home baton \
    && install --directory --owner baton /data

USER baton
VOLUME /data
EXPOSE 8000 5000
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve"]
