# What scripts that start servers on loopback share: free ports, and why a server ended. It is read by `source`.

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The first of as many ports as are asked for that nobody listens on, below the ports that outgoing connections take.
free_ports() {
    local first port
    while :; do
        first=$((20000 + RANDOM % 12000))
        for ((port = first; port < first + $1; port++)); do
            if listens "$port"; then continue 2; fi
        done
        echo "$first"
        return
    done
}

# What a log ends with, without the frames of Java's traces: the line that says why stands before them.
last_words() { grep -Ev $'^\t(at |\.\.\. )' "$1" | tail -n 5 >&2 || true; }
