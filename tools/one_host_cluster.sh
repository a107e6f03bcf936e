#!/bin/sh
# Everything of docs/cluster.md on one host: PostgreSQL, a Ray cluster of two nodes, MLflow, two controllers.
#   tools/one_host_cluster.sh start FOLDER    then `. FOLDER/env` in every shell that uses it
#   tools/one_host_cluster.sh stop FOLDER     stops what it started, and nothing else
set -eu

verb=${1:-}
folder=${2:-}
if [ -z "$folder" ] || { [ "$verb" != start ] && [ "$verb" != stop ]; }; then
    sed -n 2,4p "$0"
    exit 2
fi

begin() { # NAME COMMAND...: a process of its own, its log and its number in the folder
    name=$1
    shift
    setsid nohup "$@" > "$folder/$name.log" 2>&1 &
    echo $! > "$folder/$name.pid"
}

as_user() { # PostgreSQL refuses root
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid=postgres --regid=postgres --clear-groups "$@"
    else
        "$@"
    fi
}

wait_for() { # PORT NAME
    python -c '
import socket, sys, time
for _ in range(240):
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1).close()
        break
    except OSError:
        time.sleep(0.5)
else:
    sys.exit(f"{sys.argv[2]} does not answer; see its log.")' "$1" "$2"
}

if [ "$verb" = stop ]; then
    for name in work-1 work-2 mlflow ray-node ray-head; do
        if [ -f "$folder/$name.pid" ]; then
            kill -- "-$(cat "$folder/$name.pid")" 2> /dev/null || true # the whole group
            rm "$folder/$name.pid"
        fi
    done
    as_user "$(cat "$folder/pg_ctl")" stop -w -m fast -D "$folder/postgres/data"
    exit 0
fi

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
programs=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
echo "$programs/pg_ctl" > "$folder/pg_ctl"
if [ ! -d "$folder/postgres/data" ]; then
    mkdir -p "$folder/postgres"
    [ "$(id -u)" != 0 ] || chown postgres "$folder/postgres"
    as_user "$programs/initdb" -D "$folder/postgres/data" -A trust -U tightfit -E UTF8 > "$folder/initdb.log"
fi
[ -f "$folder/ray-token" ] || (umask 077 && python -c 'import secrets; print(secrets.token_hex(32), end="")' > "$folder/ray-token")
cat > "$folder/env" << END
export TIGHTFIT_HOME=$folder/home
export TIGHTFIT_DATABASE_URL="postgresql://tightfit@/postgres?host=$folder/postgres"
export MLFLOW_TRACKING_URI=http://127.0.0.1:${MLFLOW_PORT:-5000}
export RAY_ADDRESS=127.0.0.1:${RAY_PORT:-6379}
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$folder/ray-token
END
. "$folder/env"

as_user "$programs/pg_ctl" start -w -D "$folder/postgres/data" -l "$folder/postgres/log" \
    -o "-c listen_addresses='' -c unix_socket_directories='$folder/postgres'" > /dev/null
# On several hosts leave --node-ip-address out, and give each node its own `ray start --address=HEAD:6379`.
unset RAY_ADDRESS
begin ray-head ray start --head --block --node-ip-address=127.0.0.1 --port="${RAY_PORT:-6379}" --num-cpus=1 \
    --include-dashboard=false --disable-usage-stats
wait_for "${RAY_PORT:-6379}" "Ray's head"
begin ray-node ray start --block --address="127.0.0.1:${RAY_PORT:-6379}" --node-ip-address=127.0.0.1 --num-cpus=1 \
    --disable-usage-stats
mkdir -p "$folder/mlflow"
# For an S3-style artifact store: --artifacts-destination s3://BUCKET/PATH, and MLFLOW_S3_ENDPOINT_URL where it is not AWS.
begin mlflow mlflow server --host 127.0.0.1 --port "${MLFLOW_PORT:-5000}" --workers 1 \
    --backend-store-uri "sqlite:///$folder/mlflow/mlflow.db" --artifacts-destination "$folder/mlflow/artifacts"
. "$folder/env"
wait_for "${MLFLOW_PORT:-5000}" MLflow
tightfit db upgrade
begin work-1 tightfit work
begin work-2 tightfit work
echo "Started. In every shell: . $folder/env"
