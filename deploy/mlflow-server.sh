#!/usr/bin/env bash
# MLflow tracking server for studies on more than one node. Further arguments go to `mlflow server`.
#
#   MLFLOW_BACKEND_STORE_URI=postgresql://mlflow:PASSWORD@db.example/mlflow \
#   MLFLOW_ARTIFACTS_DESTINATION=s3://bucket/mlflow \
#   deploy/mlflow-server.sh
#
# MLFLOW_SERVER_HOST (127.0.0.1)  the address to listen on; 0.0.0.0 for other machines, behind a firewall
# MLFLOW_SERVER_PORT (5000)
# MLFLOW_SERVER_NAME (this host's name)  the name in --tracking-uri http://NAME:PORT
# MLFLOW_SERVER_ALLOWED_HOSTS  the full list instead, comma separated, each with its port
set -euo pipefail

: "${MLFLOW_BACKEND_STORE_URI:?set it to the database, such as postgresql://USER:PASSWORD@HOST/mlflow}"
: "${MLFLOW_ARTIFACTS_DESTINATION:?set it to the place for files, such as s3://BUCKET/mlflow}"
# Through the environment rather than as arguments, which every user of the machine can read.
export MLFLOW_BACKEND_STORE_URI MLFLOW_ARTIFACTS_DESTINATION

host=${MLFLOW_SERVER_HOST:-127.0.0.1}
port=${MLFLOW_SERVER_PORT:-5000}
name=${MLFLOW_SERVER_NAME:-$(hostname)}
# MLflow compares the Host header with this list, port included, and answers 403 to any other.
allowed=${MLFLOW_SERVER_ALLOWED_HOSTS:-localhost:$port,127.0.0.1:$port,$name:$port}

export MLFLOW_DISABLE_TELEMETRY=${MLFLOW_DISABLE_TELEMETRY:-true}
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=${MLFLOW_SERVER_ENABLE_JOB_EXECUTION:-false}
exec "${PYTHON:-python}" -m mlflow server --host "$host" --port "$port" --allowed-hosts "$allowed" "$@"
