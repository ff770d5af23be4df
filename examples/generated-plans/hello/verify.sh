#!/usr/bin/env bash
# Proves the merged work. It runs in the root of the repository and writes only below a scratch directory.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for file in hello.py test_hello.py README.md; do
  test -f "$file" || { echo "missing: $file"; exit 1; }
done

test "$(python3 hello.py Ada)" = "Hello, Ada!"
test "$(python3 hello.py)" = "Hello, world!"
code=0
python3 hello.py Ada Grace > /dev/null 2> "$scratch/error" || code=$?
test "$code" -eq 2
test "$(wc -l < "$scratch/error")" -eq 1
echo "hello.py: it greets, and refuses two names"

python3 -m unittest -q test_hello 2> "$scratch/tests" || { cat "$scratch/tests"; exit 1; }
# Tests that pass whatever the program does prove nothing: a wrong greeting must make them fail.
cp test_hello.py "$scratch"
printf 'def greet(name="world"):\n    return "Goodbye"\n' > "$scratch/hello.py"
if (cd "$scratch" && python3 -m unittest -q test_hello 2> /dev/null); then
  echo "test_hello.py passes with a wrong hello.py"
  exit 1
fi
echo "test_hello.py: it passes, and finds a mistake"

grep -qF 'python3 hello.py Ada' README.md
grep -qF 'Hello, Ada!' README.md
echo "README.md: it shows a call and what it prints"
