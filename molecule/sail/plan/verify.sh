set -e
test "$(cat first second)" = "one
two"
