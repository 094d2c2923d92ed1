# shellcheck shell=bash
# For local_environment = True in config.py: every node of a block or job unpacks the environment, which was packed
# into one file, to its own SSD, and Python starts from there. Else each worker of each node opens thousands of small
# files of the shared file system at the same time. Where a node cannot, all use the environment where it lies.
#     source local_environment.sh PACKED         in a block, after activate.sh, on its first node
#     bash local_environment.sh PACKED FOLDER ENVIRONMENT    what that runs on every node

unpack() {
    local packed=$1 folder=$2 new=$2.$$ old script edits=()
    if [ -d "$folder" ]; then
        [ -O "$folder" ] # of an earlier run in the same job
        return
    fi
    mkdir -m 700 "$new" && tar -xzf "$packed" -C "$new" || return 1
    for old in "$3" "$(realpath "$3")"; do # behind #!, or in a second line, where the path is long
        edits+=(-e "1,2s@^(#!|'''exec' \"?)$old/bin/@\\1$folder/bin/@")
    done
    for script in "$new"/bin/*; do # what pip installed starts with the path of its Python
        [ -L "$script" ] || [ ! -f "$script" ] || sed -i -E "${edits[@]}" "$script" || return 1
    done
    mv -T "$new" "$folder" 2>/dev/null || [ -d "$folder" ]
}

use_local_environment() {
    local packed=$1 nodes folder
    nodes=$(sort -u "$PBS_NODEFILE" | wc -l)
    folder=${LOCAL_SCRATCH:-/local/scratch}/$(basename "$VIRTUAL_ENV")-${PBS_JOBID%%.*}-$(stat -c %Y "$packed")
    SECONDS=0
    if timeout 300 mpiexec -n "$nodes" --ppn 1 --hostfile "$PBS_NODEFILE" --cpu-bind none \
        bash "${BASH_SOURCE[0]}" "$packed" "$folder" "$VIRTUAL_ENV"; then
        echo "local_environment.sh: $packed unpacked to $folder on $nodes node(s), $SECONDS s"
        export VIRTUAL_ENV=$folder PATH=$folder/bin:$PATH
    else
        echo "local_environment.sh: $packed could not be unpacked to $folder; $VIRTUAL_ENV is used instead" >&2
    fi
}

if [ $# = 3 ]; then
    trap 'rm -rf "$2.$$"' EXIT
    unpack "$1" "$2" "$3"
else
    use_local_environment "$1"
fi
