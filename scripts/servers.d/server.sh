# What scripts/kafka and scripts/registry share: a server on loopback, of one folder with its log, port and pid. They are read by `source`.
#
# Before: `here`, `name`, `folder`, `command`. The script has `launch`, which starts the server on the port of the folder and ends with 1 where
# that ends before it answers; `answers PORT`; `halt_seconds`, how long it may take to end. `missing` ends with 3.

source "$here/servers.d/common.sh"

missing() {
    echo "$name: $1" >&2
    echo "  hint: $2" >&2
    exit 3
}

# Runs Maven's plugin that copies artifacts; its version is fixed so that nothing else is looked up. It prints what it could not download.
maven() {
    local goal=$1
    shift
    mvn -B -q -Dstyle.color=never "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:$goal" "$@" >&2
}

alive() { [ -e "$folder/pid" ] && kill -0 "$(cat "$folder/pid")" 2>/dev/null; }

# Waits until it answers: two minutes, since a machine that runs other tests too starts a JVM slowly. Ends with 1 where it ends before.
await_answer() {
    for _ in $(seq 1200); do
        alive || return 1
        answers "$(cat "$folder/port")" && return
        sleep 0.1
    done
    halt
    return 1
}

halt() {
    alive || return 0
    local pid
    pid=$(cat "$folder/pid")
    kill "$pid"
    for _ in $(seq "$((10 * halt_seconds))"); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    end
}

# Without a goodbye. It is gone when this returns.
end() {
    alive || return 0
    kill -9 "$(cat "$folder/pid")"
    while alive; do sleep 0.05; done
}

failed() {
    echo "$name: it does not start; its last words:" >&2
    last_words "$folder/log"
    exit 3
}

# Starts it on a port of its own, or on the one that is given: a port that is taken meanwhile ends it at once; then another is tried.
# `prepare PORT` comes before each try. With a process in the second argument it is stopped and removed when that ends.
start_on_a_port() {
    local port=$1 for_process=$2
    for _ in 1 2 3 4 5; do
        prepare "${port:-$(free_ports 3)}" || failed
        launch || continue
        if [ -n "$for_process" ]; then
            (
                while kill -0 "$for_process" 2>/dev/null; do sleep 0.5; done
                down
            ) >/dev/null 2>&1 </dev/null &
        fi
        return
    done
    failed
}

down() {
    halt
    if [ -e "$folder/port" ]; then
        rm -rf "$folder"
    fi
}

# What both do on `stop`, `start`, `status` and `down`; ends with 1 for another command.
common() {
    case $command in
    down) down ;;
    stop) halt ;;
    start)
        [ -e "$folder/port" ] || missing "nothing was ever started in $folder" "use \`up\` first"
        alive || launch || failed
        ;;
    status)
        if alive && answers "$(cat "$folder/port")"; then
            echo "$name: answers on 127.0.0.1:$(cat "$folder/port")"
        else
            echo "$name: not running in $folder"
            exit 1
        fi
        ;;
    *) return 1 ;;
    esac
}
